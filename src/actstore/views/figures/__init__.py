"""Figures of a store and of its tables as HoloViews objects, and what they are drawn with."""
