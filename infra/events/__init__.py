"""The event bus, its consumers, their inbox and their dead letters."""
