"""GET /events."""
