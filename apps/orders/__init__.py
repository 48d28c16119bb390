"""Orders: placing, paying, closing and listing them; owns the use cases that span stock, payment and order."""
