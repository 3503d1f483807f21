"""Curves over thresholds of a score, from counts of pixels by score or from scores themselves."""
