"""A page in the browser on which a store is explored."""
