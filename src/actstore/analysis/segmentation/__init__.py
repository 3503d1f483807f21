"""Predictions against the truth: overlap, distances, volumes, kinds of failure."""
