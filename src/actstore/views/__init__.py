"""Figures of a store as HoloViews objects, and the report made of them."""

from actstore.views.figures import frequency_map

__all__ = ["frequency_map"]
