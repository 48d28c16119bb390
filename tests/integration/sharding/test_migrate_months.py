"""A column is added to every existing month on both shards, while old and new code read on, through kills."""

import os
from collections.abc import Iterator

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, models

from infra.sharding.errors import MonthBehind
from infra.sharding.models import MonthTable
from infra.sharding.month_migration import Step, migrate_months, pending_steps
from infra.sharding.month_register import month_register
from infra.sharding.month_tables import make_months
from infra.sharding.months import Month
from infra.sharding.places import place_of_order
from infra.sharding.schema_changes import AddColumn, RemoveColumn, RemoveIndex
from tests.factories.sharding import Parcel, ParcelOfNewCode, order_id, parcel_months

MONTHS = [Month(2026, 9), Month(2026, 10), Month(2026, 11)]
SLOTS = {"shard_0": 5, "shard_1": 700}
ORDERS = [order_id(slot=slot, at=month.starts_at) for month in MONTHS for slot in SLOTS.values()]


@pytest.fixture(autouse=True)
def _three_months_with_rows(committed: None) -> Iterator[None]:
    with parcel_months(*MONTHS):
        for number in ORDERS:
            insert(Parcel, number, label="old")
        yield


def insert(logical: type[Parcel], number: int, **fields: object) -> None:
    place = place_of_order(number)
    model = logical.objects.model_for(Month.of_id(number), alias=place.alias)
    model(slot=place.slot, id=number, **fields).save(using=place.alias, force_insert=True)


def versions() -> list[int]:
    """The schema versions of all months on all shards, newest month first."""
    return [
        version
        for alias in settings.SHARD_ALIASES
        for version in MonthTable.objects.using(alias)
        .filter(logical_table="test_parcel")
        .order_by("-month")
        .values_list("schema_version", flat=True)
    ]


def migrate(**options: object) -> int:
    return migrate_months(logical_models=[ParcelOfNewCode], months=MONTHS, **options)


def assert_all_is_read_by_old_and_new_code() -> None:
    for number in ORDERS:
        assert Parcel.objects.for_order(number).get(id=number).label == "old"
        assert ParcelOfNewCode.objects.for_order(number).get(id=number).note == "none"


def columns(alias: str, table: str) -> set[str]:
    with connections[alias].cursor() as cursor:
        return {column.name for column in connections[alias].introspection.get_table_description(cursor, table)}


def test_a_column_and_an_index_are_added_to_every_month_on_both_shards() -> None:
    assert migrate() == 12
    assert versions() == [2] * 6
    for alias in settings.SHARD_ALIASES:
        for month in MONTHS:
            assert "note" in columns(alias, f"test_parcel_{month.suffix}")
    assert_all_is_read_by_old_and_new_code()
    assert migrate() == 0


def test_old_and_new_code_read_and_write_at_every_step_of_the_way() -> None:
    taken: list[Step] = []

    def look(step: Step) -> None:
        taken.append(step)
        month_register.forget()
        assert_all_is_read_by_old_and_new_code()
        for offset, logical in enumerate((Parcel, ParcelOfNewCode)):
            for number in ORDERS:
                insert(logical, number + (len(taken) * 2 + offset) * 2**22, label="during")

    migrate(on_step=look)
    assert len(taken) == 12
    # The months that are written to come first.
    assert [step.made.month for step in taken[:6]] == [month for month in reversed(MONTHS) for _ in range(2)]


def test_a_killed_run_is_resumed_where_it_died() -> None:
    # given a run that is killed after its third statement
    connections.close_all()
    child = os.fork()
    if child == 0:
        steps: list[Step] = []

        def die_after_three(step: Step) -> None:
            steps.append(step)
            if len(steps) == 3:
                os._exit(9)

        migrate(on_step=die_after_three)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert versions() == [2, 1, 0, 0, 0, 0]
    month_register.forget()
    assert_all_is_read_by_old_and_new_code()
    # when
    assert migrate() == 9
    # then
    assert versions() == [2] * 6
    assert_all_is_read_by_old_and_new_code()


def test_a_run_killed_between_the_statement_and_the_register_is_resumed() -> None:
    with connections["shard_0"].cursor() as cursor:
        cursor.execute("ALTER TABLE test_parcel_202611 ADD COLUMN note varchar(20) NOT NULL DEFAULT 'none'")
    assert migrate() == 12
    assert versions() == [2] * 6


def test_months_made_by_new_code_need_no_migration() -> None:
    make_months(Month(2026, 12), forecast=1, logical_models=[ParcelOfNewCode])
    steps = pending_steps(logical_models=[ParcelOfNewCode], months=[*MONTHS, Month(2026, 12)])
    assert {step.made.month for step in steps} == set(MONTHS)


def test_a_table_that_the_month_lacks_is_made() -> None:
    with connections["shard_1"].cursor() as cursor:
        cursor.execute("DROP TABLE test_parcel_202610")
    MonthTable.objects.using("shard_1").filter(logical_table="test_parcel", month=202610).update(logical_table="gone")
    try:
        steps = migrate_months(logical_models=[Parcel], aliases=["shard_1"], months=MONTHS)
    finally:
        MonthTable.objects.using("shard_1").filter(logical_table="gone").delete()
    assert steps == 1
    assert Parcel.objects.in_month("shard_1", Month(2026, 10)).count() == 0


def test_writing_a_new_column_to_a_month_that_lacks_it_is_told_with_the_command_that_mends_it() -> None:
    model = ParcelOfNewCode.objects.model_for(Month(2026, 9))
    with pytest.raises(MonthBehind, match="migrate_months"):
        model(slot=5, id=1, note="x").save(using="shard_0", force_insert=True)


def test_columns_and_indexes_can_be_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    migrate()
    monkeypatch.setattr(
        ParcelOfNewCode,
        "schema_changes",
        (*ParcelOfNewCode.schema_changes, RemoveIndex("parcel_note"), RemoveColumn("note")),
    )
    assert migrate() == 12
    assert "note" not in columns("shard_0", "test_parcel_202611")


def test_a_column_that_old_code_could_not_insert_without_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured):
        AddColumn("note", models.CharField(max_length=20))
