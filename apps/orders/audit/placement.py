"""Rows where they belong: shard, slot, month, partition; and partitions small enough."""

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any, Final

from django.apps import apps
from django.db import connections

from apps.orders.audit.findings import Finding
from apps.orders.audit.reading import MAX_FINDINGS, fetch
from infra.sharding.ids import slot_of
from infra.sharding.models import Fence, ShardedModel
from infra.sharding.month_register import MadeTable, made_tables
from infra.sharding.month_tables import make_months, plan_month
from infra.sharding.monthly import monthly_models
from infra.sharding.months import Month
from infra.sharding.slots import slot_of_user
from infra.sharding.topology import load_slot_map

PARTITION_ALERT_ROWS: Final = 400_000
_ID_SLOT: Final = "({id} >> 12) & 1023"
_PAGE: Final = 20_000


def month_rows_are_where_their_id_says(alias: str, now: datetime) -> Iterator[Finding]:
    """The slot and the month of each row of a monthly table are those of its order's id."""
    for made, key in _tables(alias):
        first, last = made.month.first_id, made.month.next().first_id
        rows = fetch(
            alias,
            f"SELECT DISTINCT slot, {key} FROM {made.name} "
            f"WHERE slot <> {_ID_SLOT.format(id=key)} OR {key} < {first} OR {key} >= {last} LIMIT {MAX_FINDINGS}",
        )
        for slot, order_id in rows:
            yield Finding(
                "placement",
                alias,
                f"order {order_id} in {made.name}",
                f"in slot {slot} of {made.month}; its id says slot {slot_of(order_id)} of {Month.of_id(order_id)}",
            )


def slots_are_on_their_shard(alias: str, now: datetime) -> Iterator[Finding]:
    """No table of a shard has rows of a slot that another shard owns."""
    owned = set(load_slot_map().slots_of(alias))
    tables = [made.name for made in made_tables(alias)]
    tables += [model._meta.db_table for model in apps.get_models() if issubclass(model, ShardedModel)]
    for table in tables:
        for (slot,) in fetch(alias, f"SELECT DISTINCT slot FROM `{table}`"):
            if slot not in owned:
                yield Finding("placement", alias, f"slot {slot} in {table}", "another shard owns this slot")


def customers_are_in_their_slot(alias: str, now: datetime) -> Iterator[Finding]:
    """The slot of each customer is the hash of the user id. Walked by primary key, since no server can compute it."""
    after = (-1, -1)
    while True:
        rows = fetch(
            alias,
            "SELECT slot, user_id FROM users_customer "
            f"WHERE slot > %s OR (slot = %s AND user_id > %s) ORDER BY slot, user_id LIMIT {_PAGE}",
            [after[0], *after],
        )
        for slot, user_id in rows:
            if slot != slot_of_user(user_id):
                yield Finding(
                    "placement", alias, f"customer {user_id}", f"in slot {slot}, belongs in {slot_of_user(user_id)}"
                )
        if len(rows) < _PAGE:
            return
        after = rows[-1][0], rows[-1][1]


def fences_agree_with_the_map(alias: str, now: datetime) -> Iterator[Finding]:
    """Each slot that a shard owns has its fence there, at the map's epoch, and no other slot is writable there."""
    slot_map = load_slot_map()
    fences = {fence.slot: fence for fence in Fence.objects.using(alias)}
    for slot in slot_map.slots_of(alias):
        if slot not in fences or fences[slot].epoch != slot_map.owners[slot].epoch:
            yield Finding("fences", alias, f"slot {slot}", "its fence is missing or of another epoch")
    for slot, fence in fences.items():
        if fence.writable and slot_map.owners[slot].alias != alias:
            yield Finding("fences", alias, f"slot {slot}", "writable, though another shard owns it")


def partitions_are_as_registered(alias: str, now: datetime) -> Iterator[Finding]:
    """Each monthly table is there and partitioned by slot into as many parts as the register says."""
    found = {
        table: (methods, expressions, count)
        for table, methods, expressions, count in fetch(
            alias,
            "SELECT table_name, MIN(partition_method), MIN(REPLACE(partition_expression, '`', '')), COUNT(*) "
            "FROM information_schema.partitions WHERE table_schema = DATABASE() GROUP BY table_name",
        )
    }
    for made in made_tables(alias):
        layout = found.get(made.name)
        if layout is None:
            yield Finding("partitions", alias, made.name, "registered, and not there")
        elif layout != ("HASH", "slot", made.partitions):
            yield Finding("partitions", alias, made.name, f"registered with {made.partitions} partitions, is {layout}")


def partitions_are_small(alias: str, now: datetime) -> Iterator[Finding]:
    """No partition holds more than 400,000 rows. The server's estimate says which ones to count."""
    connection: Any = connections[alias]
    if not connection.mysql_is_mariadb:
        # Oracle MySQL otherwise tells an estimate that may be a day old.
        fetch(alias, "SET SESSION information_schema_stats_expiry = 0")
    rows = fetch(
        alias,
        "SELECT table_name, partition_name FROM information_schema.partitions "
        "WHERE table_schema = DATABASE() AND table_rows > %s",
        [PARTITION_ALERT_ROWS // 2],
    )
    for table, partition in rows:
        part = f"PARTITION ({partition})" if partition is not None else ""
        [(count,)] = fetch(alias, f"SELECT COUNT(*) FROM `{table}` {part}")
        if count > PARTITION_ALERT_ROWS:
            yield Finding("partitions", alias, f"{table} {partition or ''}".strip(), f"{count} rows")


def months_are_made_ahead(alias: str, now: datetime) -> Iterator[Finding]:
    """This month's and the next month's tables are there, and every table is at its model's schema version."""
    this_month = Month.of(now)
    for month in (this_month, this_month.next()):
        for planned in plan_month(month, aliases=[alias]):
            if not planned.exists:
                yield Finding("months", alias, planned.name, "not made", mend=partial(_make, month))
    versions = {model.table: len(model.schema_changes) for model in monthly_models()}
    for made in made_tables(alias):
        if made.table in versions and made.schema_version < versions[made.table]:
            yield Finding("months", alias, made.name, "behind its model: run `manage.py migrate_months`")


def _tables(alias: str) -> Iterator[tuple[MadeTable, str]]:
    """Yield the made tables of installed models, each with the column that holds the order's id."""
    keys = {
        model.table: "order_id" if any(field.name == "order_id" for field in model._meta.fields) else "id"
        for model in monthly_models()
    }
    for made in made_tables(alias):
        if made.table in keys:
            yield made, keys[made.table]


def _make(month: Month, now: datetime) -> None:
    make_months(month)
