"""Commands of the users app, one a module."""
