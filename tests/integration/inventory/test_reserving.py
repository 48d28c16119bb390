"""Reserving: whole claims or none, all shortages told, repeats told apart from new claims."""

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from apps.inventory import locks, selectors, services, statements
from apps.inventory.errors import ReservationConflict
from apps.inventory.models import Stock
from apps.inventory.types import Shortage
from tests.factories.inventory import NOW, counters, make_claim, make_stock, new_order_id
from tests.factories.plans import explain_word

pytestmark = pytest.mark.django_db(databases="__all__")


def test_a_claim_that_the_stock_covers_is_held_wholly() -> None:
    first, second = make_stock(5), make_stock(5)
    claim = make_claim([(first, 2), (second, 5)])

    assert services.reserve([claim], now=NOW) == {claim.order_id: ()}

    assert (counters(first), counters(second)) == ((5, 2), (5, 5))
    assert selectors.holds_of("inventory", [claim.order_id])[0].lines == claim.lines
    assert selectors.available([first, second, "never-was"]) == {first: 3, second: 0, "never-was": 0}


def test_all_shortages_of_a_claim_are_told_at_once_and_nothing_is_held() -> None:
    plenty, scarce, none = make_stock(9), make_stock(1), make_stock(4, allotted=4)
    claim = make_claim([(plenty, 9), (scarce, 2), (none, 1), ("unknown-sku", 3)])

    refusals = services.reserve([claim], now=NOW)

    assert set(refusals[claim.order_id]) == {
        Shortage(scarce, 2, 1),
        Shortage(none, 1, 0),
        Shortage("unknown-sku", 3, 0),
    }
    assert counters(plenty) == (9, 0)
    assert not selectors.holds_of("inventory", [claim.order_id])


def test_a_short_batch_is_decided_first_come_first_served_over_slots_of_both_shards() -> None:
    hot, other = make_stock(5), make_stock(100)
    claims = [
        make_claim([(hot, 3)], order_id=new_order_id(shard=0)),
        make_claim([(hot, 3), (other, 1)], order_id=new_order_id(shard=1)),
        make_claim([(hot, 2)], order_id=new_order_id(shard=1)),
        make_claim([(other, 4)], order_id=new_order_id(shard=0)),
    ]

    refusals = services.reserve(claims, now=NOW)

    assert [refusals[claim.order_id] for claim in claims] == [(), (Shortage(hot, 3, 2),), (), ()]
    assert (counters(hot), counters(other)) == ((5, 5), (100, 4))


def test_a_repeat_of_the_same_order_is_held_once() -> None:
    sku = make_stock(3)
    claim = make_claim([(sku, 2)])
    services.reserve([claim], now=NOW)

    assert services.reserve([claim, make_claim([(sku, 1)])], now=NOW)[claim.order_id] == ()

    assert counters(sku) == (3, 3)


def test_a_repeat_of_a_released_order_holds_nothing() -> None:
    sku = make_stock(3)
    claim = make_claim([(sku, 2)])
    services.reserve([claim], now=NOW)
    services.release([claim.order_id], now=NOW)

    with pytest.raises(ReservationConflict):
        services.reserve([claim], now=NOW)

    assert counters(sku) == (3, 0)


def test_a_repeat_with_other_lines_is_refused() -> None:
    sku = make_stock(3)
    claim = make_claim([(sku, 2)])
    services.reserve([claim], now=NOW)

    with pytest.raises(ReservationConflict):
        services.reserve([make_claim([(sku, 1)], order_id=claim.order_id)], now=NOW)


def test_skus_that_differ_only_by_case_have_stock_of_their_own() -> None:
    upper = make_stock(2)
    lower = make_stock(2, sku=upper.lower())
    services.reserve([make_claim([(upper, 2)]), make_claim([(lower, 1)])], now=NOW)
    assert (counters(upper), counters(lower)) == ((2, 2), (2, 1))


def test_every_write_raises_the_version_of_its_rows() -> None:
    sku = make_stock(9)
    claim = make_claim([(sku, 2)])
    versions = [Stock.objects.get(sku=sku).version]
    for write in (
        lambda: services.reserve([claim], now=NOW),
        lambda: services.settle([claim.order_id], now=NOW),
        lambda: services.restock([claim.order_id], now=NOW),
        lambda: services.adjust(sku, to=3, reason="count", actor="test", now=NOW),
    ):
        write()
        versions.append(Stock.objects.get(sku=sku).version)
    assert versions == [1, 2, 3, 4, 5]


def test_a_claim_of_nothing_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="at least one unit"):
        services.reserve([make_claim([(make_stock(1), 0)])], now=NOW)


def test_the_guarded_update_passes_over_a_short_sku_and_tells_by_its_count() -> None:
    enough, short = make_stock(2), make_stock(1)
    with transaction.atomic(using="inventory"):
        assert statements.add_reserved("inventory", {enough: 2, short: 2}) == 1


def test_the_database_itself_refuses_to_oversell() -> None:
    """The net below the guard: a statement without one fails on the CHECK."""
    sku = make_stock(1)
    with pytest.raises(Exception, match="stock_no_oversell"), transaction.atomic(using="inventory"):
        Stock.objects.filter(sku=sku).update(reserved=2)


def test_locking_the_reservations_of_orders_looks_each_key_up_and_scans_nothing() -> None:
    orders = [new_order_id() for _ in range(40)]
    with CaptureQueriesContext(connections["inventory"]) as queries, transaction.atomic(using="inventory"):
        locks.lock_reservations("inventory", orders)
    statement = next(query["sql"] for query in queries if "FOR UPDATE" in query["sql"])
    with connections["inventory"].cursor() as cursor:
        cursor.execute(f"{explain_word(connections['inventory'])} {statement}")
        columns = [column[0] for column in cursor.description]
        plan = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
    reservation = next(row for row in plan if row["table"] == "r")
    assert reservation["type"] == "ref"
    assert reservation["ref"] == "k.slot,k.order_id"
