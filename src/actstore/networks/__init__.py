"""Loads and checks networks: weights load without running code, and outputs must depend on one input alone."""
