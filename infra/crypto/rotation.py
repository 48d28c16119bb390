"""Brings every encrypted column of every table under the current data key.

The columns are found by walking the models: those of each database, and each month's tables on each shard. The key id
in front of a stored value tells what is still to do, so that a killed run is simply started again.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.db import connections, models, transaction

from infra.crypto.cipher import SEPARATOR, current_key_id, decrypt_text, encrypt_text, is_current
from infra.crypto.fields import EncryptedField
from infra.sharding.monthly import existing_months, monthly_models
from infra.sharding.placement import databases_of, includes, shard_aliases
from infra.sharding.places import shard_atomic
from infra.sharding.topology import topology

BATCH_ROWS: Final = 200
_SLOT: Final = "slot"


@dataclass(frozen=True, slots=True)
class EncryptedTable:
    """A table with encrypted columns, in one database."""

    alias: str
    name: str
    key_columns: tuple[str, ...]
    columns: tuple[str, ...]

    @property
    def is_by_slot(self) -> bool:
        """Whether the table is partitioned by slot, so that each slot is worked off for itself."""
        return self.key_columns[0] == _SLOT


def encrypted_tables() -> Iterator[EncryptedTable]:
    """Yield all tables with encrypted columns in all databases."""
    for model in apps.get_models():
        for alias in settings.DATABASES:
            if includes(databases_of(model), alias):
                yield from _table(model, alias)
    for logical in monthly_models():
        for alias in shard_aliases():
            for month in existing_months(alias):
                yield from _table(logical.objects.model_for(month, alias=alias), alias)


def rotate(
    table: EncryptedTable, *, slots: Iterable[int] | None = None, pause_s: float = 0.0
) -> Iterator[tuple[int, int]]:
    """Encrypt a table's values again that are under an old key; yields (slot, rows changed) as it goes.

    All of the shard's slots by default; a table of the directory counts as slot 0.

    Small transactions, with a pause after each. A row that somebody else writes meanwhile is left as they wrote it,
    which is under the current key. Raises Undecryptable for a value whose key is missing.
    """
    if not table.is_by_slot:
        yield 0, _rotate_part(table, None, pause_s)
        return
    for slot in topology.slot_map().slots_of(table.alias) if slots is None else slots:
        yield slot, _rotate_part(table, slot, pause_s)


def stale_count(table: EncryptedTable) -> int:
    """Count the rows of a table with a value that is not under the current key; reads the whole table."""
    condition, parameters = _stale_condition(table)
    with connections[table.alias].cursor() as cursor:
        cursor.execute(f"SELECT COUNT(*) FROM `{table.name}` WHERE {condition}", parameters)  # noqa: S608
        return int(cursor.fetchone()[0])


def _table(model: type[models.Model], alias: str) -> Iterator[EncryptedTable]:
    columns = tuple(str(field.column) for field in model._meta.local_fields if isinstance(field, EncryptedField))
    if not columns:
        return
    key = model._meta.pk
    key_fields: Sequence[Any] = key.fields if isinstance(key, models.CompositePrimaryKey) else [key]
    yield EncryptedTable(
        alias=alias,
        name=model._meta.db_table,
        key_columns=tuple(field.column for field in key_fields),
        columns=columns,
    )


def _rotate_part(table: EncryptedTable, slot: int | None, pause_s: float) -> int:
    """Work off a slot, or a whole table that has none, in batches; returns how many rows were changed."""
    changed_count, after = 0, None
    while rows := _stale_rows(table, slot, after):
        with _transaction(table, slot):
            changed_count += sum(_rewrite(table, row) for row in rows)
        if len(rows) < BATCH_ROWS:
            break
        after = rows[-1][: len(table.key_columns)]
        time.sleep(pause_s)
    return changed_count


def _transaction(table: EncryptedTable, slot: int | None) -> AbstractContextManager[None]:
    if slot is None:
        return transaction.atomic(using=table.alias)
    return shard_atomic(table.alias, [slot])


def _stale_condition(table: EncryptedTable) -> tuple[str, list[Any]]:
    condition = " OR ".join(f"(`{column}` <> '' AND `{column}` NOT LIKE %s)" for column in table.columns)
    return f"({condition})", [f"{current_key_id()}{SEPARATOR}%"] * len(table.columns)


def _stale_rows(table: EncryptedTable, slot: int | None, after: Sequence[Any] | None) -> list[tuple[Any, ...]]:
    """Return a batch of rows (key, then values) after a key, in the order of the key."""
    condition, parameters = _stale_condition(table)
    if slot is not None:
        condition, parameters = f"slot = %s AND {condition}", [slot, *parameters]
    if after is not None:
        beyond, values = _beyond(table.key_columns, after)
        condition, parameters = f"{condition} AND {beyond}", [*parameters, *values]
    selected = ", ".join(f"`{column}`" for column in (*table.key_columns, *table.columns))
    order = ", ".join(f"`{column}`" for column in table.key_columns)
    with connections[table.alias].cursor() as cursor:
        cursor.execute(
            f"SELECT {selected} FROM `{table.name}` WHERE {condition} ORDER BY {order} LIMIT {BATCH_ROWS}",  # noqa: S608
            parameters,
        )
        return list(cursor.fetchall())


def _beyond(columns: Sequence[str], after: Sequence[Any]) -> tuple[str, list[Any]]:
    """Return the condition of keys greater than `after`, column by column: servers use no index for (a, b) > (x, y)."""
    column, value = columns[0], after[0]
    if len(columns) == 1:
        return f"`{column}` > %s", [value]
    rest, values = _beyond(columns[1:], after[1:])
    return f"(`{column}` > %s OR (`{column}` = %s AND {rest}))", [value, value, *values]


def _rewrite(table: EncryptedTable, row: Sequence[Any]) -> bool:
    """Write a row's values under the current key, unless somebody has changed one since it was read."""
    key, stored = row[: len(table.key_columns)], row[len(table.key_columns) :]
    stale = {
        column: value
        for column, value in zip(table.columns, stored, strict=True)
        if value is not None and not is_current(value)
    }
    changes = ", ".join(f"`{column}` = %s" for column in stale)
    unchanged = " AND ".join(f"`{column}` = %s" for column in (*table.key_columns, *stale))
    with connections[table.alias].cursor() as cursor:
        cursor.execute(
            f"UPDATE `{table.name}` SET {changes} WHERE {unchanged}",  # noqa: S608 - names come from the models
            [*(encrypt_text(decrypt_text(value)) for value in stale.values()), *key, *stale.values()],
        )
        return bool(cursor.rowcount)
