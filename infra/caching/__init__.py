"""Caches in front of the databases; here the first level, inside each process."""
