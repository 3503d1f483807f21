"""Differences between patients, and associations within them."""
