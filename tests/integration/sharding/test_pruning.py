"""Every statement that a queryset sends opens one partition of the month's table."""

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.db import connections, models
from django.test.utils import CaptureQueriesContext

from infra.sharding.places import place_of_order
from tests.factories.plans import explain_word
from tests.factories.sharding import Parcel, order_id
from tests.integration.sharding.conftest import THIS_MONTH

pytestmark = [pytest.mark.django_db(databases=list(settings.DATABASES)), pytest.mark.usefixtures("parcels")]

SLOTS = [5, 700]


def partitions_opened(alias: str, statement: str) -> str:
    """Ask the server which partitions a statement would open."""
    connection = connections[alias]
    explain = explain_word(connection)
    with connection.cursor() as cursor:
        cursor.execute(f"{explain} {statement}")
        columns = [column[0] for column in cursor.description]
        return str(dict(zip(columns, cursor.fetchone(), strict=True))["partitions"])


@pytest.fixture(params=SLOTS)
def parcel(request: pytest.FixtureRequest) -> models.Model:
    number = order_id(slot=request.param, at=THIS_MONTH.starts_at)
    model = Parcel.objects.model_for(THIS_MONTH)
    # Others in the same table, so that the server has something to leave out.
    alias = place_of_order(number).alias
    model.rows.using(alias).bulk_create(
        model(slot=slot, id=order_id(slot=slot, at=THIS_MONTH.starts_at, number=1), label="other")
        for slot in range(request.param - 5, request.param + 40)
    )
    row = model(slot=request.param, id=number, label="a")
    row.save(using=alias, force_insert=True)
    return row


def of(row: Any) -> Any:
    return Parcel.objects.for_order(row.id).filter(id=row.id)


STATEMENTS: dict[str, Callable[[Any], object]] = {
    "get": lambda row: of(row).get(),
    "list": lambda row: list(of(row)),
    "in list": lambda row: list(Parcel.objects.for_order(row.id).filter(id__in=[row.id, row.id + 4])),
    "lock": lambda row: list(of(row).select_for_update()),
    "count": lambda row: of(row).count(),
    "exists": lambda row: of(row).exists(),
    "aggregate": lambda row: of(row).aggregate(models.Count("label")),
    "update": lambda row: of(row).update(label="b"),
    "save": lambda row: row.save(using=row._state.db),
    "save again": lambda row: row.save(),
    "refresh": lambda row: row.refresh_from_db(),
    "bulk update": lambda row: of(row).bulk_update([row], ["label"]),
    "delete": lambda row: of(row).delete(),
    "delete the instance": lambda row: row.delete(),
}


@pytest.mark.parametrize("what", STATEMENTS)
def test_a_statement_on_an_orders_rows_opens_only_its_partition(parcel: Any, what: str) -> None:
    alias, partition = place_of_order(parcel.id).alias, f"p{parcel.slot % 8}"
    with CaptureQueriesContext(connections[alias]) as captured:
        STATEMENTS[what](parcel)
    statements = [query["sql"] for query in captured if parcel._meta.db_table in query["sql"]]
    assert statements
    for statement in statements:
        assert partitions_opened(alias, statement) == partition, statement


def test_an_update_by_id_alone_would_open_all_partitions(parcel: Any) -> None:
    alias = place_of_order(parcel.id).alias
    statement = f"UPDATE {parcel._meta.db_table} SET label = 'b' WHERE id = {parcel.id}"
    assert partitions_opened(alias, statement) == ",".join(f"p{number}" for number in range(8))
