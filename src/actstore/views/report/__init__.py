"""A self-contained page about a store: its sections, their sentences and tables, and how it is written."""
