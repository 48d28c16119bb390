"""Makes the tables of a month on each shard, sized from a forecast, and brings existing months up to their model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from math import ceil, log2
from typing import Final

from django.apps.registry import Apps
from django.conf import settings
from django.db import connections
from django.utils import timezone

from infra.sharding.models import MonthTable
from infra.sharding.month_register import made_tables, month_register
from infra.sharding.monthly import MonthlyModel, build_model, monthly_models
from infra.sharding.months import Month
from infra.sharding.named_lock import ddl_lock
from infra.sharding.placement import shard_aliases
from infra.sharding.slots import SLOT_COUNT
from infra.sharding.topology import topology

PARTITION_MAX_ROWS: Final = 500_000
HEADROOM: Final = 1.3
DDL_LOCK_NAME: Final = "months"


class TooFewSlots(Exception):
    """The forecast needs more partitions than the shard has slots; more shards are needed."""


@dataclass(frozen=True, slots=True)
class PlannedTable:
    """One month's table on one shard."""

    alias: str
    table: str
    month: Month
    partitions: int
    exists: bool

    @property
    def name(self) -> str:
        """The physical table's name."""
        return f"{self.table}_{self.month.suffix}"


def partition_count(*, forecast: int, rows_per_order: float, owned_slots: int) -> int:
    """Return how many partitions keep each under 500,000 rows with 30 % headroom: a power of two.

    `forecast` counts the month's orders on all shards. Raises TooFewSlots when even a slot a partition is too much.
    """
    rows = forecast * rows_per_order * owned_slots / SLOT_COUNT * HEADROOM
    partitions = int(2 ** ceil(log2(max(rows / PARTITION_MAX_ROWS, 1))))
    if partitions > max(owned_slots, 1):
        raise TooFewSlots(f"{rows:,.0f} rows a month need {partitions} partitions over {owned_slots} slots.")
    return partitions


def plan_month(
    month: Month,
    *,
    forecast: int | None = None,
    logical_models: Sequence[type[MonthlyModel]] | None = None,
    aliases: Sequence[str] | None = None,
) -> list[PlannedTable]:
    """Return the tables that a month should have on each shard, and which of them exist."""
    orders = settings.MONTHLY_ORDERS_FORECAST if forecast is None else forecast
    slot_map = topology.slot_map()
    plan = []
    for alias in shard_aliases() if aliases is None else aliases:
        made = {(table.table, table.month): table for table in made_tables(alias)}
        for logical in monthly_models() if logical_models is None else logical_models:
            existing = made.get((logical.table, month))
            partitions = partition_count(
                forecast=orders,
                rows_per_order=logical.rows_per_order,
                owned_slots=len(slot_map.slots_of(alias)),
            )
            plan.append(
                PlannedTable(
                    alias=alias,
                    table=logical.table,
                    month=month,
                    partitions=existing.partitions if existing else partitions,
                    exists=existing is not None,
                )
            )
    return plan


def make_months(
    month: Month,
    *,
    forecast: int | None = None,
    logical_models: Sequence[type[MonthlyModel]] | None = None,
    aliases: Sequence[str] | None = None,
) -> list[PlannedTable]:
    """Make what is missing of a month's tables on each shard; return what was made.

    Idempotent, and safe to run at once in several processes (a named lock on each shard). A table appears whole, with
    its indexes and partitions, or not at all: it is built under another name and renamed. Changes nothing that
    exists, whatever the forecast.
    """
    by_table = {model.table: model for model in (monthly_models() if logical_models is None else logical_models)}
    made: list[PlannedTable] = []
    for alias in shard_aliases() if aliases is None else aliases:
        # Looked up before and again under the lock, which only those take who have something to make.
        if any(not planned.exists for planned in _plan(month, alias, forecast, by_table)):
            with ddl_lock(alias, DDL_LOCK_NAME):
                for planned in _plan(month, alias, forecast, by_table):
                    if not planned.exists:
                        _make_table(by_table[planned.table], planned)
                        made.append(planned)
            month_register.read(alias)
    return made


def applied_version(logical: type[MonthlyModel], alias: str, table_name: str) -> int:
    """Return how many of the model's schema changes, counted from the first, a physical table has."""
    connection = connections[alias]
    changes = takewhile(lambda change: change.is_applied(connection, table_name), logical.schema_changes)
    return sum(1 for _ in changes)


def _plan(
    month: Month, alias: str, forecast: int | None, by_table: Mapping[str, type[MonthlyModel]]
) -> list[PlannedTable]:
    return plan_month(month, forecast=forecast, logical_models=list(by_table.values()), aliases=[alias])


def _make_table(logical: type[MonthlyModel], planned: PlannedTable) -> None:
    connection = connections[planned.alias]
    building = f"{planned.name}__new"
    # The class has the month's real name, since names of constraints derive from it.
    model = build_model(
        logical,
        name=f"{logical.__name__}{planned.month.suffix}",
        db_table=building,
        registry=Apps(),
        attributes={"month": planned.month},
    )
    with connection.schema_editor(collect_sql=True, atomic=False) as editor:
        editor.create_model(model)
    create, *others = [str(statement).rstrip(";") for statement in editor.collected_sql]
    schema_version = len(logical.schema_changes)
    with connection.cursor() as cursor:
        if planned.name in connection.introspection.table_names(cursor):
            # Made by a process that died before it could register the table, perhaps with older code.
            schema_version = applied_version(logical, planned.alias, planned.name)
        else:
            cursor.execute(f"DROP TABLE IF EXISTS `{building}`")
            cursor.execute(f"{create} PARTITION BY HASH (slot) PARTITIONS {planned.partitions}")
            for statement in others:
                cursor.execute(statement)
            cursor.execute(f"RENAME TABLE `{building}` TO `{planned.name}`")
    MonthTable.objects.using(planned.alias).create(
        logical_table=planned.table,
        month=planned.month.number,
        partitions=planned.partitions,
        schema_version=schema_version,
        created_at=timezone.now(),
    )
