"""Group commit: what arrives together is committed together."""
