"""Brings every existing month on every shard to its model's schema version, one statement at a time.

The newest months come first, since those are written to. Each statement is followed by the register's new version; a
run that dies in between is resumed by the next one, which sees in the table itself whether the statement was done.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from django.apps.registry import Apps
from django.db import OperationalError, connections

from infra.sharding.models import MonthTable
from infra.sharding.month_register import MadeTable, existing_months, made_tables, month_register
from infra.sharding.month_tables import DDL_LOCK_NAME, make_months
from infra.sharding.monthly import MonthlyModel, build_model, monthly_models
from infra.sharding.months import Month
from infra.sharding.named_lock import ddl_lock
from infra.sharding.placement import shard_aliases
from infra.sharding.schema_changes import SchemaChange

LOCK_WAIT_TIMEOUT: Final = 1205
# An ALTER that waits for long transactions makes all later statements wait behind it, so it gives up and comes again.
METADATA_LOCK_TIMEOUT_S: Final = 3
METADATA_LOCK_TRIES: Final = 20


@dataclass(frozen=True, slots=True)
class Step:
    """One schema change on one physical table, or the making of a table that its month lacks (`change` is None).

    `version` is what the table has afterwards.
    """

    alias: str
    logical: type[MonthlyModel]
    made: MadeTable
    change: SchemaChange | None
    version: int

    def __str__(self) -> str:
        return f"{self.alias}  {self.made.name}: {self.change if self.change is not None else 'make the table'}"


def pending_steps(
    *,
    logical_models: Sequence[type[MonthlyModel]] | None = None,
    aliases: Sequence[str] | None = None,
    months: Collection[Month] | None = None,
) -> list[Step]:
    """Return what is to be done in these (or all) months, in the order in which it will be: newest month first."""
    logicals = {model.table: model for model in (monthly_models() if logical_models is None else logical_models)}
    steps: list[Step] = []
    for alias in shard_aliases() if aliases is None else aliases:
        registered = made_tables(alias)
        for month in reversed(existing_months(alias)):
            if months is not None and month not in months:
                continue
            made_in_month = {made.table: made for made in registered if made.month == month}
            for table, logical in logicals.items():
                made = made_in_month.get(table)
                if made is None:
                    steps.append(Step(alias, logical, MadeTable(table, month, 0, 0), None, len(logical.schema_changes)))
                else:
                    changes = enumerate(logical.schema_changes, start=1)
                    steps.extend(
                        Step(alias, logical, made, change, version)
                        for version, change in changes
                        if version > made.schema_version
                    )
    return steps


def migrate_months(
    *,
    logical_models: Sequence[type[MonthlyModel]] | None = None,
    aliases: Sequence[str] | None = None,
    months: Collection[Month] | None = None,
    pause_s: float = 0.0,
    on_step: Callable[[Step], None] = lambda step: None,
) -> int:
    """Take all pending steps, pausing between them; return how many were taken.

    Resumable at any point. One run at a time on each shard; a second one waits, and then finds nothing to do. Rows
    stay readable and writable throughout (online DDL; a busy table is tried again later). Raises OperationalError
    when a table stays busy.
    """
    taken = 0
    for alias in shard_aliases() if aliases is None else aliases:
        for step in pending_steps(logical_models=logical_models, aliases=[alias], months=months):
            if step.change is None:
                make_months(step.made.month, logical_models=[step.logical], aliases=[alias])
            else:
                with ddl_lock(alias, DDL_LOCK_NAME):
                    _apply(step, step.change, pause_s=pause_s)
            taken += 1
            on_step(step)
            time.sleep(pause_s)
        month_register.read(alias)
    return taken


def _apply(step: Step, change: SchemaChange, *, pause_s: float) -> None:
    connection = connections[step.alias]
    if not change.is_applied(connection, step.made.name):
        model = build_model(
            step.logical,
            name=f"{step.logical.__name__}{step.made.month.suffix}",
            db_table=step.made.name,
            registry=Apps(),
            attributes={"month": step.made.month},
        )
        _execute_patiently(step.alias, change.statement(connection, model), pause_s=pause_s)
    MonthTable.objects.using(step.alias).filter(
        logical_table=step.made.table, month=step.made.month.number, schema_version__lt=step.version
    ).update(schema_version=step.version)


def _execute_patiently(alias: str, statement: str, *, pause_s: float) -> None:
    with _short_metadata_lock_wait(alias), connections[alias].cursor() as cursor:
        for tries_left in reversed(range(METADATA_LOCK_TRIES)):
            try:
                cursor.execute(statement)
            except OperationalError as error:
                if error.args[0] != LOCK_WAIT_TIMEOUT or not tries_left:
                    raise
                time.sleep(pause_s)
            else:
                return


@contextmanager
def _short_metadata_lock_wait(alias: str) -> Iterator[None]:
    with connections[alias].cursor() as cursor:
        cursor.execute("SET SESSION lock_wait_timeout = %s", (METADATA_LOCK_TIMEOUT_S,))
        try:
            yield
        finally:
            cursor.execute("SET SESSION lock_wait_timeout = DEFAULT")
