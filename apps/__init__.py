"""The commerce: users, catalog, inventory, payments, orders. Imports run downwards only (pyproject.toml)."""
