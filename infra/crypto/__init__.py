"""Personal data at rest: encryption with key rotation, keyed blind indexes, masks for logs and staff pages."""
