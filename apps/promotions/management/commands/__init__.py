"""Management commands of promotions."""
