"""The jobs that fill a store, and what runs them."""
