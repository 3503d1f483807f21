"""Defines per-channel statistics, and the compiled loops that compute them."""
