"""users settings."""
