"""Commands of the encryption at rest."""
