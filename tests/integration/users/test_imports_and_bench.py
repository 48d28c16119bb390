"""Imported customers, shoppers for load tests, months of orders, snapshots of addresses."""

import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from apps.users.authentication import shopper_of
from apps.users.models import Customer, Identity
from apps.users.selectors import address_snapshots, get_address, get_customer, order_months
from apps.users.services import imports, make_bench_shoppers, note_order_month, note_order_months
from apps.users.services.imports import import_customer, import_customers
from apps.users.services.profile import update_profile
from apps.users.types import BenchShopper, CustomerSource
from infra.crypto.fields import open_json
from infra.outbox.models import OutboxEvent
from infra.sharding.ids import IMPORT_WORKER, parse, time_of
from infra.sharding.months import Month
from infra.sharding.places import place_of_user, shard_aliases
from tests.factories.users import LONDON, NOW, make_address, make_customer

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))

LONG_AGO = datetime(2010, 12, 1, 8, 26, tzinfo=UTC)
NOVEMBER, DECEMBER = Month(2026, 11), Month(2026, 12)


def sources(count: int, *, at: datetime = LONG_AGO) -> list[CustomerSource]:
    return [CustomerSource("retail", f"{NOW.timestamp()}-{n}", at, "GB") for n in range(count)]


class Crash(BaseException):
    """Ends the code under test as `kill -9` would."""


def test_importing_twice_changes_nothing() -> None:
    first = import_customers(sources(40), now=NOW)
    again = import_customers(sources(40), now=NOW + timedelta(days=1))
    assert first == again
    assert len(set(first.values())) == 40
    assert {place_of_user(user_id).alias for user_id in first.values()} == set(shard_aliases())
    for user_id in first.values():
        assert get_customer(user_id).updated_at == NOW


def test_an_imported_customer_has_an_id_of_their_time_and_no_events() -> None:
    user_id = import_customer(source="retail", number="17850", at=LONG_AGO, country="GB", now=NOW)
    assert timedelta(0) <= time_of(user_id) - LONG_AGO < timedelta(seconds=1)
    assert parse(user_id).worker == IMPORT_WORKER
    customer = get_customer(user_id)
    assert (customer.state, customer.version, customer.registered_at) == ("live", 0, LONG_AGO)
    alias = place_of_user(user_id).alias
    assert not OutboxEvent.objects.using(alias).filter(aggregate="customer", aggregate_id=user_id).exists()
    # and their first change is version 1
    update_profile(user_id=user_id, changes={"locale": "en-GB"}, now=NOW)
    assert get_customer(user_id).version == 1


def test_a_customer_keeps_the_id_of_the_first_import() -> None:
    first = import_customers(sources(1), now=NOW)
    assert import_customers(sources(1, at=LONG_AGO + timedelta(days=1)), now=NOW) == first


def test_an_import_that_was_killed_between_the_databases_is_finished_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(imports.Identity.objects, "bulk_create", crash)
        with pytest.raises(Crash):
            import_customers(sources(10), now=NOW)
    ids = import_customers(sources(10), now=NOW)
    assert len(set(ids.values())) == 10
    for user_id in ids.values():
        assert Customer.objects.for_user(user_id).filter(user_id=user_id).count() == 1
        assert Identity.objects.filter(user_id=user_id).count() == 1


def test_two_customers_whose_ids_collide_get_two_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = import_customer(source="retail", number="first", at=LONG_AGO, country="GB", now=NOW)
    imported_user_id = imports._imported_user_id

    def colliding(customer: CustomerSource, attempt: int) -> int:
        return taken if attempt == 0 else imported_user_id(customer, attempt)

    monkeypatch.setattr(imports, "_imported_user_id", colliding)
    ids = import_customers(sources(2), now=NOW)
    assert len({taken, *ids.values()}) == 3
    assert import_customers(sources(2), now=NOW) == ids


def test_bench_shoppers_are_whole_customers_on_all_shards(django_assert_max_num_queries) -> None:
    shoppers = list(make_bench_shoppers(60))
    assert set(_counts_by_shard(shoppers).values()) == {60 // len(shard_aliases())}
    for shopper in shoppers[:5]:
        seen = shopper_of(f"Bearer {shopper.access}", now=datetime.now(UTC) + timedelta(minutes=59))
        assert (seen.user_id, seen.exempt) == (shopper.user_id, True)
        assert get_address(shopper.user_id, shopper.address_id).details["city"] == "London"
        customer = get_customer(shopper.user_id)
        assert (customer.state, customer.version, customer.display_name) == ("live", 0, "")
        assert Identity.objects.filter(user_id=shopper.user_id, state="live").exists()


@pytest.mark.parametrize("_round", range(8))
def test_even_a_few_bench_shoppers_are_on_all_shards(_round: int) -> None:
    shard_count = len(shard_aliases())
    assert _counts_by_shard(make_bench_shoppers(shard_count)) == dict.fromkeys(shard_aliases(), 1)


def _counts_by_shard(shoppers: Iterable[BenchShopper]) -> Counter[str]:
    return Counter(place_of_user(shopper.user_id).alias for shopper in shoppers)


def test_the_command_writes_a_line_for_each_shopper(tmp_path: Path) -> None:
    out = tmp_path / "shoppers.jsonl"
    call_command("bench_shoppers", "--count", "7", "--out", str(out), stdout=StringIO())
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == 7
    assert all(line.keys() == {"user_id", "access", "address_id"} for line in lines)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [("bench_shoppers", ["--count", "1", "--out", "-"]), ("last_code", ["a@example.org"]), ("sample_login", [])],
)
def test_what_is_for_developers_is_refused_under_production(
    command: str, arguments: list[str], settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings.IS_PRODUCTION = True
    with pytest.raises(CommandError):
        call_command(command, *arguments)


def test_the_sample_login_is_made_once() -> None:
    outputs = []
    for _ in range(2):
        out = StringIO()
        call_command("sample_login", stdout=out)
        outputs.append(json.loads(out.getvalue().splitlines()[-1]))
    assert outputs[0] == outputs[1]
    assert outputs[0].keys() == {"login", "password", "address_id"}


@pytest.mark.parametrize("shard", [0, 1])
def test_a_month_with_an_order_is_noted_once(shard: int) -> None:
    user_id = make_customer(shard=shard).user_id
    assert order_months(user_id) is None
    assert note_order_month(user_id, NOVEMBER)
    assert not note_order_month(user_id, NOVEMBER)
    assert order_months(user_id) == (202611, 202611)
    assert note_order_month(user_id, DECEMBER)
    assert note_order_month(user_id, Month(2010, 12))
    assert not note_order_month(user_id, Month(2018, 5))
    assert order_months(user_id) == (201012, 202612)
    assert get_customer(user_id).version == 0


def test_a_month_is_noted_for_a_whole_batch_in_one_statement(django_assert_num_queries) -> None:
    user_ids = [make_customer(shard=0).user_id for _ in range(5)]
    note_order_month(user_ids[0], NOVEMBER)
    with django_assert_num_queries(1, using=shard_aliases()[0]):
        assert note_order_months(shard_aliases()[0], [*user_ids, user_ids[1]], NOVEMBER) == 4
    assert note_order_months(shard_aliases()[0], [], NOVEMBER) == 0


def test_a_snapshot_holds_the_address_and_its_encrypted_form() -> None:
    customer, other = make_customer(shard=0), make_customer(shard=0)
    address = make_address(customer.user_id)
    wanted = (customer.user_id, address.id)
    nobodys = [(other.user_id, address.id), (customer.user_id, 1)]
    found = address_snapshots(shard_aliases()[0], [wanted, *nobodys])
    assert found.keys() == {wanted}
    snapshot = found[wanted]
    assert snapshot.members == LONDON.as_json()
    assert "Lovelace" not in snapshot.sealed
    assert open_json(snapshot.sealed) == LONDON.as_json()
