"""Monthly models: the id alone leads to the month's table, and a missing month is told loudly."""

from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.db import IntegrityError, models, transaction

from infra.sharding.errors import MissingMonth
from infra.sharding.month_register import existing_months
from infra.sharding.monthly import MonthlyModel, monthly_models
from infra.sharding.months import Month
from infra.sharding.places import place_of_order
from infra.sharding.router import UnplacedQuery
from infra.sharding.slots import slot_of_user
from tests.factories.sharding import Parcel, order_id
from tests.integration.sharding.conftest import THIS_MONTH

pytestmark = [pytest.mark.django_db(databases=list(settings.DATABASES)), pytest.mark.usefixtures("parcels")]

MISSING = THIS_MONTH.previous()
SLOTS = [5, 700]


def save(number: int, **fields: object) -> models.Model:
    place = place_of_order(number)
    row = Parcel.objects.model_for(Month.of_id(number))(slot=place.slot, id=number, **fields)
    row.save(using=place.alias, force_insert=True)
    return row


@pytest.mark.parametrize("slot", SLOTS)
def test_an_orders_rows_are_found_by_its_id_alone(slot: int) -> None:
    number = order_id(slot=slot, at=THIS_MONTH.starts_at)
    row = save(number, label="Ab", digest=b"\x00\xff")
    found = Parcel.objects.for_order(number).get(id=number)
    assert isinstance(row, Parcel)
    assert isinstance(found, Parcel)
    assert (found.slot, found.label, found.digest) == (slot, "Ab", b"\x00\xff")
    assert found._meta.db_table == f"test_parcel_{THIS_MONTH.suffix}"


def test_a_users_rows_are_found_in_the_months_asked_for() -> None:
    user_id = 4711
    past = existing_months("shard_0")[0]
    for month in (past, THIS_MONTH):
        save(order_id(slot=slot_of_user(user_id), at=month.starts_at))
    assert [Parcel.objects.for_user(user_id, month).count() for month in (past, THIS_MONTH)] == [1, 1]


def test_a_whole_shards_month_can_be_walked() -> None:
    for slot in SLOTS:
        save(order_id(slot=slot, at=THIS_MONTH.starts_at))
    assert [Parcel.objects.in_month(alias, THIS_MONTH).count() for alias in ("shard_0", "shard_1")] == [1, 1]


def test_every_month_of_2010_to_2040_has_its_own_class_and_table() -> None:
    months = [Month(year, month) for year in range(2010, 2041) for month in range(1, 13)]
    classes = {Parcel.objects.model_for(month) for month in months}
    assert len(classes) == len(months)
    assert {model._meta.db_table for model in classes} == {f"test_parcel_{month.suffix}" for month in months}
    assert Parcel.objects.model_for(Month(2026, 11)) is Parcel.objects.model_for(Month(2026, 11))
    assert all(month == model.month for month, model in ((m, Parcel.objects.model_for(m)) for m in months))


READS = {
    "list": list,
    "first": lambda rows: rows.first(),
    "count": lambda rows: rows.count(),
    "exists": lambda rows: rows.exists(),
    "aggregate": lambda rows: rows.aggregate(models.Max("id")),
    "update": lambda rows: rows.update(label="x"),
    "delete": lambda rows: rows.delete(),
}


@pytest.mark.parametrize("read", READS)
def test_a_missing_month_is_told_with_the_command_that_mends_it(read: str) -> None:
    number = order_id(slot=5, at=MISSING.starts_at)
    with pytest.raises(MissingMonth, match=f"manage.py create_months --month {MISSING}"):
        READS[read](Parcel.objects.for_order(number).filter(id=number))


def test_writing_to_a_missing_month_is_told_too() -> None:
    number = order_id(slot=5, at=MISSING.starts_at)
    with pytest.raises(MissingMonth, match=f"--month {MISSING}"), transaction.atomic(using="shard_0"):
        save(number)
    model = Parcel.objects.model_for(MISSING)
    with pytest.raises(MissingMonth, match=f"--month {MISSING}"), transaction.atomic(using="shard_0"):
        model.rows.using("shard_0").bulk_create([model(slot=5, id=number)])


@pytest.mark.parametrize(
    "at", [datetime.now(UTC) + timedelta(days=70), datetime(2010, 5, 1, tzinfo=UTC), datetime(2070, 1, 1, tzinfo=UTC)]
)
def test_an_id_that_can_be_no_orders_has_no_rows(at: datetime) -> None:
    assert list(Parcel.objects.for_order(order_id(slot=5, at=at))) == []


def test_a_repeated_key_is_still_an_integrity_error() -> None:
    number = order_id(slot=5, at=THIS_MONTH.starts_at)
    save(number)
    with pytest.raises(IntegrityError):
        save(number)


def test_a_query_that_names_no_place_is_refused() -> None:
    model = Parcel.objects.model_for(THIS_MONTH)
    with pytest.raises(UnplacedQuery):
        model.rows.count()
    with pytest.raises(UnplacedQuery):
        model(slot=5, id=1).save()


def test_months_stay_out_of_migrations_and_test_models_out_of_the_apps() -> None:
    assert Parcel not in monthly_models()
    assert all(issubclass(model, MonthlyModel) and model._meta.abstract for model in monthly_models())


def test_codes_differ_by_case_and_a_trailing_space_is_refused() -> None:
    number = order_id(slot=5, at=THIS_MONTH.starts_at)
    save(number, label="abc")
    assert not Parcel.objects.for_order(number).filter(label="ABC").exists()
    for bad in ("abc ", "é"):
        with pytest.raises(ValueError, match="ASCII"):
            Parcel.objects.for_order(number).filter(label=bad).exists()
