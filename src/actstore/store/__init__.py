"""The store format: array layouts, shards, commit records, and reading."""
