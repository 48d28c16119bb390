"""Shoppers: registration, logins, sessions, profiles, addresses; and the accounts of the staff, apart from them."""
