"""The HTTP API of shoppers: /auth and /users."""
