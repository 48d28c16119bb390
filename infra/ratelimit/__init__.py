"""How much each user, each address and each route may ask for, and how much a worker takes on at once."""
