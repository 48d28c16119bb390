"""Asking a server how it would run a statement."""

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper


def explain_word(connection: BaseDatabaseWrapper) -> str:
    """Return what asks this server for a plan as a table that names partitions."""
    return "EXPLAIN PARTITIONS" if connection.mysql_is_mariadb else "EXPLAIN FORMAT=TRADITIONAL"


def plan_of(connection: BaseDatabaseWrapper, statement: str) -> list[dict[str, Any]]:
    """Return the rows of the plan, by column."""
    with connection.cursor() as cursor:
        cursor.execute(f"{explain_word(connection)} {statement}")
        columns = [column[0] for column in cursor.description]
        return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
