"""events settings."""
