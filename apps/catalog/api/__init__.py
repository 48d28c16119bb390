"""HTTP endpoints of the catalog."""
