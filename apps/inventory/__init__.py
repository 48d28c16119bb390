"""What there is of each SKU, who holds how much of it, and what moved it."""
