"""Settings that the staff change while the system runs."""
