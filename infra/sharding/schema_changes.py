"""Changes of a monthly model's schema, each one statement that can be told done from not done.

A monthly model lists its changes in order (`schema_changes`); their count is its schema version. New months are made
from the model as it is; `migrate_months` brings the others up. To be readable by old and new code meanwhile, a column
is added with a database default (old code does not know it), and removed only by code that no longer names it.
"""

from dataclasses import dataclass
from typing import Protocol

from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper


class SchemaChange(Protocol):
    """One step of a monthly table's schema."""

    def is_applied(self, connection: BaseDatabaseWrapper, table: str) -> bool:
        """Tell whether the table already has this change (a run may have been killed after the statement)."""

    def statement(self, connection: BaseDatabaseWrapper, model: type[models.Model]) -> str:
        """Return the one DDL statement that makes the change on the model's table."""


@dataclass(frozen=True, slots=True)
class AddColumn:
    """Add a column; the field must be nullable or have a `db_default`, which the months' old rows take.

    In months that lack the column, new code reads the field's default (`infra.sharding.monthly`).
    """

    name: str
    field: models.Field  # type: ignore[type-arg]

    def __post_init__(self) -> None:
        if not (self.field.null or self.field.has_db_default()):
            raise ImproperlyConfigured(f"{self.name} is added to months that have rows: it needs null or db_default.")

    def is_applied(self, connection: BaseDatabaseWrapper, table: str) -> bool:
        """Tell whether the column is there."""
        return self.name in _columns(connection, table)

    def statement(self, connection: BaseDatabaseWrapper, model: type[models.Model]) -> str:
        """Return the ALTER TABLE."""
        field = self.field.clone()
        field.set_attributes_from_name(self.name)
        field.model = model
        with connection.schema_editor(collect_sql=True, atomic=False) as editor:
            template, parameters = editor.column_sql(model, field, include_default=True)
            definition = str(template) % tuple(editor.quote_value(value) for value in parameters or ())
            return f"ALTER TABLE {_quoted(connection, model)} ADD COLUMN `{field.column}` {definition}"


@dataclass(frozen=True, slots=True)
class RemoveColumn:
    """Remove a column that no running code names any more."""

    name: str

    def is_applied(self, connection: BaseDatabaseWrapper, table: str) -> bool:
        """Tell whether the column is gone."""
        return self.name not in _columns(connection, table)

    def statement(self, connection: BaseDatabaseWrapper, model: type[models.Model]) -> str:
        """Return the ALTER TABLE."""
        return f"ALTER TABLE {_quoted(connection, model)} DROP COLUMN `{self.name}`"


@dataclass(frozen=True, slots=True)
class AddIndex:
    """Add an index over columns; it must have a name."""

    name: str
    columns: tuple[str, ...]

    def is_applied(self, connection: BaseDatabaseWrapper, table: str) -> bool:
        """Tell whether the index is there."""
        return self.name in _indexes(connection, table)

    def statement(self, connection: BaseDatabaseWrapper, model: type[models.Model]) -> str:
        """Return the ALTER TABLE."""
        columns = ", ".join(f"`{column}`" for column in self.columns)
        return f"ALTER TABLE {_quoted(connection, model)} ADD INDEX `{self.name}` ({columns})"


@dataclass(frozen=True, slots=True)
class RemoveIndex:
    """Remove an index."""

    name: str

    def is_applied(self, connection: BaseDatabaseWrapper, table: str) -> bool:
        """Tell whether the index is gone."""
        return self.name not in _indexes(connection, table)

    def statement(self, connection: BaseDatabaseWrapper, model: type[models.Model]) -> str:
        """Return the ALTER TABLE."""
        return f"ALTER TABLE {_quoted(connection, model)} DROP INDEX `{self.name}`"


def _quoted(connection: BaseDatabaseWrapper, model: type[models.Model]) -> str:
    return str(connection.ops.quote_name(model._meta.db_table))


def _columns(connection: BaseDatabaseWrapper, table: str) -> set[str]:
    with connection.cursor() as cursor:
        return {column.name for column in connection.introspection.get_table_description(cursor, table)}


def _indexes(connection: BaseDatabaseWrapper, table: str) -> set[str]:
    with connection.cursor() as cursor:
        return set(connection.introspection.get_constraints(cursor, table))
