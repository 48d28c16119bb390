"""Commands of the encryption at rest, one a module."""
