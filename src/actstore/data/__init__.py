"""Finds the volumes of a data set on disk and reads them."""
