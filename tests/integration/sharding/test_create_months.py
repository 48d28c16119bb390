"""Months are made whole, once, by any number of processes at a time."""

import io
import threading
from collections.abc import Iterator

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connections

from infra.sharding.models import MonthTable
from infra.sharding.month_tables import TooFewSlots, make_months, plan_month
from infra.sharding.months import Month
from tests.factories.sharding import FORECAST_OF_SEVERAL_PARTITIONS, Parcel, drop_parcels

MONTH = Month(2031, 2)
TABLE = "test_parcel_203102"


@pytest.fixture(autouse=True)
def _no_parcels(committed: None) -> Iterator[None]:
    drop_parcels()
    yield
    drop_parcels()


def make() -> list[str]:
    made = make_months(MONTH, forecast=FORECAST_OF_SEVERAL_PARTITIONS, logical_models=[Parcel])
    return [f"{table.alias}.{table.name}" for table in made]


def shape(alias: str) -> tuple[int, set[str], int]:
    """How many partitions, which indexes, and how many rows in the register."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT COUNT(*) FROM information_schema.partitions "
            "WHERE table_schema = DATABASE() AND table_name = %s AND partition_method = 'HASH'",
            (TABLE,),
        )
        partitions = cursor.fetchone()[0]
        indexes = {
            name
            for name, constraint in connection.introspection.get_constraints(cursor, TABLE).items()
            if constraint["index"]
        }
    return partitions, indexes, MonthTable.objects.using(alias).filter(logical_table="test_parcel").count()


WHOLE = (8, {"PRIMARY", "parcel203102_label"}, 1)


def test_a_month_is_made_on_every_shard_with_partitions_and_indexes() -> None:
    assert make() == [f"shard_0.{TABLE}", f"shard_1.{TABLE}"]
    assert [shape(alias) for alias in settings.SHARD_ALIASES] == [WHOLE, WHOLE]


def test_making_it_again_changes_nothing_whatever_the_forecast() -> None:
    make()
    assert make_months(MONTH, forecast=60_000_000, logical_models=[Parcel]) == []
    assert [shape(alias) for alias in settings.SHARD_ALIASES] == [WHOLE, WHOLE]


def test_processes_that_make_it_at_once_make_it_once() -> None:
    barrier = threading.Barrier(4)
    made: list[str] = []
    errors: list[BaseException] = []

    def run() -> None:
        barrier.wait()
        try:
            made.extend(make())
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(made) == [f"shard_0.{TABLE}", f"shard_1.{TABLE}"]


def test_what_a_killed_process_left_behind_is_no_obstacle() -> None:
    # given one shard with a half-made table, and one with a whole table that was not yet registered
    make()
    MonthTable.objects.using("shard_1").filter(logical_table="test_parcel").delete()
    MonthTable.objects.using("shard_0").filter(logical_table="test_parcel").delete()
    with connections["shard_0"].cursor() as cursor:
        cursor.execute(f"DROP TABLE {TABLE}")
        cursor.execute(f"CREATE TABLE {TABLE}__new (slot INT)")
    # when
    make()
    # then
    assert [shape(alias) for alias in settings.SHARD_ALIASES] == [WHOLE, WHOLE]
    with connections["shard_0"].cursor() as cursor:
        assert f"{TABLE}__new" not in connections["shard_0"].introspection.table_names(cursor)


def test_a_dry_run_makes_nothing() -> None:
    plan = plan_month(MONTH, forecast=FORECAST_OF_SEVERAL_PARTITIONS, logical_models=[Parcel])
    assert [(table.alias, table.partitions, table.exists) for table in plan] == [
        ("shard_0", 8, False),
        ("shard_1", 8, False),
    ]
    out = io.StringIO()
    before = MonthTable.objects.using("shard_0").count()
    call_command("create_months", "--dry-run", "--month", "2031-02", "--forecast", "1000", stdout=out)
    assert MonthTable.objects.using("shard_0").count() == before
    assert "exists" not in out.getvalue()


def test_what_is_no_month_is_refused() -> None:
    with pytest.raises(CommandError, match="2031-13"):
        call_command("create_months", "--month", "2031-13", stdout=io.StringIO())


def test_a_forecast_beyond_the_shards_is_refused_before_anything_is_made() -> None:
    with pytest.raises(TooFewSlots):
        make_months(MONTH, forecast=99_000_000_000, logical_models=[Parcel])
    assert MonthTable.objects.using("shard_0").filter(logical_table="test_parcel").count() == 0
