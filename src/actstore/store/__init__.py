"""The format: arrays as data, shards, commits, and the store as it is opened."""
