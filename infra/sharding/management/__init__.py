"""Management commands of the topology."""
