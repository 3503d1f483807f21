"""What a per-channel statistic is, and the compiled loops that take it."""
