"""What is asked for: the tables of a run's TOML file."""
