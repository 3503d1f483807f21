"""Images that make a channel respond most: pure torch, without a store."""
