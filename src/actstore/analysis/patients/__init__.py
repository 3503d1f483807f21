"""What differs between patients, and what goes together within each of them."""
