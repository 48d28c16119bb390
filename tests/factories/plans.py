"""Asking a server how it would run a statement."""

from django.db.backends.base.base import BaseDatabaseWrapper


def explain_word(connection: BaseDatabaseWrapper) -> str:
    """Return what asks this server for a plan as a table that names partitions."""
    return "EXPLAIN PARTITIONS" if connection.mysql_is_mariadb else "EXPLAIN FORMAT=TRADITIONAL"
