"""The HTTP server's side of the API contract."""
