"""What is like what: samples, layers, conditions and networks compared by what layers hold of them."""
