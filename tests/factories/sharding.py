"""Models, tables and ids for tests of the sharding."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import ClassVar

from django.conf import settings
from django.db import connections, models

from infra.sharding.fields import AsciiField, DigestField
from infra.sharding.ids import IdParts, compose, ms_of
from infra.sharding.models import MonthTable
from infra.sharding.month_register import month_register
from infra.sharding.month_tables import make_months
from infra.sharding.monthly import MonthlyModel
from infra.sharding.months import Month
from infra.sharding.schema_changes import AddColumn, AddIndex

FORECAST_OF_SEVERAL_PARTITIONS = 4_000_000


class Parcel(MonthlyModel):
    """A monthly model that only tests know."""

    table: ClassVar[str] = "test_parcel"
    rows_per_order: ClassVar[float] = 1.0

    pk = models.CompositePrimaryKey("slot", "id")
    id = models.BigIntegerField()
    label = AsciiField(20, default="")
    digest = DigestField(32, default=b"")

    class Meta:
        abstract = True
        indexes = [models.Index(fields=["label"], name="%(class)s_label")]
        constraints = [models.CheckConstraint(condition=models.Q(id__gt=0), name="%(class)s_id_positive")]


class ParcelOfNewCode(Parcel):
    """The same model one release later: a column and an index more."""

    schema_changes = (
        AddColumn("note", models.CharField(max_length=20, default="none", db_default="none")),
        AddIndex("parcel_note", ("note",)),
    )

    note = models.CharField(max_length=20, default="none", db_default="none")

    class Meta(Parcel.Meta):
        abstract = True
        indexes = [*Parcel.Meta.indexes, models.Index(fields=["note"], name="parcel_note")]


ParcelOfNewCode.logical = ParcelOfNewCode


def order_id(*, slot: int, at: datetime = datetime(2026, 11, 22, tzinfo=UTC), number: int = 0) -> int:
    """An order's id in a slot; different numbers give different ids of that hour."""
    return compose(IdParts(at_ms=ms_of(at) + number, slot=slot, worker=1, sequence=0))


@contextmanager
def parcel_months(*months: Month, forecast: int = FORECAST_OF_SEVERAL_PARTITIONS) -> Iterator[None]:
    """Make the parcels' tables of some months, and drop all of the parcels' tables at the end."""
    drop_parcels()
    try:
        for month in months:
            make_months(month, forecast=forecast, logical_models=[Parcel])
        yield
    finally:
        drop_parcels()


def drop_parcels() -> None:
    """Drop all tables of parcels and forget them."""
    for alias in settings.SHARD_ALIASES:
        with connections[alias].cursor() as cursor:
            tables = [name for name in connections[alias].introspection.table_names(cursor) if "test_parcel" in name]
            for name in tables:
                cursor.execute(f"DROP TABLE `{name}`")
        MonthTable.objects.using(alias).filter(logical_table=Parcel.table).delete()
    month_register.forget()
