"""Channels of a layer: their rank, how often they are on top, and what compares them."""
