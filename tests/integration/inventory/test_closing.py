"""What becomes of holds: each transition once, counters and movements in step, damaged rows contained."""

from datetime import timedelta

import pytest
from django.test import override_settings

from apps.inventory import selectors, services
from apps.inventory.errors import StockMismatch
from apps.inventory.models import Movement, Reservation, Stock
from infra.sharding.slots import slot_of_user
from tests.factories.inventory import NOW, counters, make_claim, make_stock, new_order_id

pytestmark = pytest.mark.django_db(databases="__all__")


def _hold(sku: str, quantity: int, *, shard: int) -> int:
    claim = make_claim([(sku, quantity)], order_id=new_order_id(shard=shard))
    assert services.reserve([claim], now=NOW) == {claim.order_id: ()}
    return claim.order_id


def _state(order_id: int) -> str:
    return selectors.holds_of("inventory", [order_id])[0].state


def test_a_release_gives_back_once_for_orders_of_both_shards() -> None:
    sku = make_stock(10)
    orders = [_hold(sku, 3, shard=0), _hold(sku, 4, shard=1)]

    assert services.release([*orders, new_order_id()], now=NOW) == 2
    assert services.release(orders, now=NOW) == 0

    assert counters(sku) == (10, 0)
    assert {_state(order_id) for order_id in orders} == {"released"}


def test_settling_deducts_once_and_leaves_a_movement_a_line() -> None:
    sku, other = make_stock(10), make_stock(10)
    claim = make_claim([(sku, 3), (other, 1)])
    services.reserve([claim], now=NOW)

    assert services.settle([claim.order_id], now=NOW) == 1
    assert services.settle([claim.order_id], now=NOW) == 0

    assert (counters(sku), counters(other)) == ((7, 0), (9, 0))
    movements = Movement.objects.filter(order_id=claim.order_id).values_list("sku", "kind", "quantity")
    assert set(movements) == {(sku, "deduction", -3), (other, "deduction", -1)}


def test_restocking_brings_settled_units_back_once() -> None:
    sku = make_stock(10)
    order_id = _hold(sku, 3, shard=1)
    assert services.restock([order_id], now=NOW) == 0  # not settled yet
    services.settle([order_id], now=NOW)

    assert services.restock([order_id], now=NOW) == 1
    assert services.restock([order_id], now=NOW) == 0

    assert counters(sku) == (10, 0)
    assert _state(order_id) == "restocked"


@pytest.mark.parametrize("confirmed", [False, True])
def test_what_was_settled_is_never_released_nor_the_other_way_round(confirmed: bool) -> None:
    sku = make_stock(10)
    settled, released = _hold(sku, 3, shard=0), _hold(sku, 2, shard=1)
    if confirmed:
        assert services.confirm([settled, released], now=NOW) == 2
    services.settle([settled], now=NOW)
    services.release([released], now=NOW)

    assert services.release([settled], now=NOW) == 0
    assert services.settle([released], now=NOW) == 0
    assert services.confirm([settled, released], now=NOW) == 0

    assert counters(sku) == (7, 0)


def test_a_batch_over_the_batch_size_is_done_wholly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.inventory.services.closing.BATCH_SIZE", 2)
    sku = make_stock(10)
    orders = [_hold(sku, 1, shard=number % 2) for number in range(5)]
    assert services.release(orders, now=NOW) == 5
    assert counters(sku) == (10, 0)


def test_one_damaged_sku_keeps_back_only_its_own_orders() -> None:
    damaged, sound = make_stock(10), make_stock(10)
    stuck, free = _hold(damaged, 3, shard=0), _hold(sound, 3, shard=1)
    Stock.objects.filter(sku=damaged).update(reserved=1)  # somebody changed the row by hand

    with pytest.raises(StockMismatch) as caught:
        services.release([stuck, free], now=NOW)

    assert caught.value.order_ids == (stuck,)
    assert counters(sound) == (10, 0)
    assert counters(damaged) == (10, 1)
    assert (_state(stuck), _state(free)) == ("held", "released")


def test_only_old_holds_that_nobody_confirmed_are_stale_and_pages_follow_each_other() -> None:
    sku = make_stock(50)
    early = NOW - timedelta(days=400)
    old = [make_claim([(sku, 1), (make_stock(9), 2)]) for _ in range(3)]
    for number, claim in enumerate(old):
        services.reserve([claim], now=early + timedelta(seconds=number))
    confirmed, fresh = make_claim([(sku, 1)]), make_claim([(sku, 1)])
    services.reserve([confirmed], now=early)
    services.confirm([confirmed.order_id], now=early)
    services.reserve([fresh], now=NOW)

    first = selectors.stale_holds("inventory", before=early + timedelta(hours=1), limit=2)
    last = first[-1]
    second = selectors.stale_holds(
        "inventory", before=early + timedelta(hours=1), limit=2, after=(last.created_at, last.order_id)
    )

    assert [hold.order_id for hold in (*first, *second)] == [claim.order_id for claim in old]
    assert first[0].lines == old[0].lines


def test_a_hold_is_found_by_its_user_and_request() -> None:
    claim = make_claim([(make_stock(5), 2)], user_id=41, order_id=new_order_id(slot=slot_of_user(41)))
    services.reserve([claim], now=NOW)

    found = selectors.find_hold(user_id=41, request_digest=claim.request_digest)

    assert [(hold.order_id, hold.state, hold.lines) for hold in found] == [(claim.order_id, "held", claim.lines)]
    assert selectors.find_hold(user_id=42, request_digest=claim.request_digest) == []


@override_settings(
    INVENTORY_CLOSED_RETENTION_DAYS=1, INVENTORY_SETTLED_RETENTION_DAYS=30, INVENTORY_MOVEMENT_RETENTION_DAYS=60
)
def test_retention_clears_what_ended_and_never_what_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.inventory.services.retention._BATCH_SIZE", 2)
    sku = make_stock(100)
    orders = {state: [_hold(sku, 1, shard=n % 2) for n in range(3)] for state in ("held", "released", "settled")}
    services.release(orders["released"], now=NOW)
    services.settle(orders["settled"], now=NOW)

    def left() -> set[str]:
        ids = [order_id for group in orders.values() for order_id in group]
        return set(Reservation.objects.filter(order_id__in=ids).values_list("state", flat=True))

    services.purge_closed_reservations(now=NOW + timedelta(hours=23))
    assert len(left()) == 3
    services.purge_closed_reservations(now=NOW + timedelta(days=2))
    assert left() == {1, 3}
    services.purge_closed_reservations(now=NOW + timedelta(days=31))
    assert left() == {1}

    services.purge_movements(now=NOW + timedelta(days=59))
    assert Movement.objects.filter(sku=sku).count() == 3
    assert services.purge_movements(now=NOW + timedelta(days=61)) >= 3
    assert not Movement.objects.filter(sku=sku).exists()
