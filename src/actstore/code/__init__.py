"""Imports the code that a spec names and records digests of what ran."""
