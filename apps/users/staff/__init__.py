"""The staff's pages about customers, inside the admin."""
