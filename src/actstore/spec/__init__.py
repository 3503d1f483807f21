"""The run spec: the tables of its TOML file."""
