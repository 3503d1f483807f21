"""Rows for people: every table of a store."""
