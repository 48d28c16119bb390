"""payments settings."""
