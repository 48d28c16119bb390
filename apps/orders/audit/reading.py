"""How the checks read: raw rows, and the tables of a shard's months."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.db import connections

from infra.sharding.month_register import made_tables
from infra.sharding.months import Month

MAX_FINDINGS: Final = 500
"""A check tells so many findings of a kind and table at most: more would be one disaster, not many findings."""

MAX_SLOTS_READ: Final = 64
"""So many slots, or buckets, whose sums differ are read row by row."""

ORDER_TABLES: Final = ("orders_order", "orders_line", "orders_event", "payments_attempt", "payments_refund")


@dataclass(frozen=True, slots=True)
class MonthTables:
    """The names of one month's tables on a shard."""

    month: Month
    order: str
    line: str
    event: str
    attempt: str
    refund: str


def months_of(alias: str) -> list[MonthTables]:
    """Return the months of a shard that have all their tables, oldest first."""
    by_month: dict[Month, set[str]] = {}
    for made in made_tables(alias):
        by_month.setdefault(made.month, set()).add(made.table)
    return [
        MonthTables(month, *(f"{table}_{month.suffix}" for table in ORDER_TABLES))
        for month, tables in sorted(by_month.items())
        if tables.issuperset(ORDER_TABLES)
    ]


def fetch(alias: str, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Read all rows of a statement."""
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


def utc(at: datetime | None) -> datetime | None:
    """Return a DATETIME as raw SQL gives it (naive, in UTC) as an aware time."""
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at


def sql_time(at: datetime) -> datetime:
    """Return an aware time as the naive UTC that raw SQL compares with."""
    return at.astimezone(UTC).replace(tzinfo=None)


def differing_slots(alias: str, one: str, other: str, parameters: Sequence[Any] = ()) -> str:
    """Compare two statements that each give (slot, count, checksum); return the slots that differ, for an IN list.

    Summing up both sides and reading rows only where the sums differ is what makes a check over a million orders take
    seconds. The two statements are two snapshots, so the exact comparison of those slots has the last word. Empty when
    all agree; at most MAX_SLOTS_READ slots, since more is one disaster.
    """
    sums = [
        {slot: (count, int(checksum)) for slot, count, checksum in fetch(alias, statement, parameters)}
        for statement in (one, other)
    ]
    slots = sorted(slot for slot in sums[0].keys() | sums[1].keys() if sums[0].get(slot) != sums[1].get(slot))
    return ", ".join(str(slot) for slot in slots[:MAX_SLOTS_READ])
