"""Buyers in threads against one stock: exactly the stock is sold, no deadlock reaches anyone; and the same without
the guards, to show that these tests would see it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.db import OperationalError, connections, transaction
from django.db.models import F

from apps.inventory import selectors, services, statements
from apps.inventory.models import Reservation, Stock
from infra.mysql.retry import is_deadlock
from tests.factories.inventory import NOW, counters, make_claim, make_stock, new_order_id

pytestmark = pytest.mark.usefixtures("committed")

THREAD_COUNT = 16


def at_once(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run the tasks in threads that start together, and return their results; an error in one is raised here."""
    barrier = Barrier(len(tasks))

    def run(task: Callable[[], Any]) -> Any:
        try:
            barrier.wait(timeout=10)
            return task()
        finally:
            connections["inventory"].close()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run, tasks))


@pytest.fixture
def deadlocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[OperationalError]]:
    """The deadlocks that the server reported to the code under test, retried or not."""
    met: list[OperationalError] = []

    def noted(error: BaseException) -> bool:
        if found := is_deadlock(error):
            met.append(error)  # type: ignore[arg-type]
        return found

    monkeypatch.setattr("infra.mysql.retry.is_deadlock", noted)
    return met


def _buy(sku: str, quantity: int, *, shard: int) -> bool:
    claim = make_claim([(sku, quantity)], order_id=new_order_id(shard=shard))
    return services.reserve([claim], now=NOW)[claim.order_id] == ()


def test_two_hundred_buyers_of_fifty_units_get_exactly_fifty() -> None:
    sku = make_stock(50)

    def buyer(number: int) -> list[bool]:
        return [_buy(sku, 1, shard=(number + turn) % 2) for turn in range(13)]

    bought = at_once([lambda number=number: buyer(number) for number in range(THREAD_COUNT)])

    assert sum(sum(results) for results in bought) == 50
    assert counters(sku) == (50, 50)
    assert Reservation.objects.filter(sku=sku).count() == 50


def test_batches_of_competing_committers_sell_exactly_the_stock() -> None:
    """As the group commit does it: each thread claims whole batches, many of which only partly fit."""
    sku, other = make_stock(60), make_stock(10_000)

    def committer(number: int) -> int:
        held = 0
        for _ in range(4):
            claims = [
                make_claim([(sku, 1), (other, 2)], order_id=new_order_id(shard=(number + turn) % 2))
                for turn in range(5)
            ]
            held += sum(not shortages for shortages in services.reserve(claims, now=NOW).values())
        return held

    held = at_once([lambda number=number: committer(number) for number in range(8)])

    assert sum(held) == 60
    assert (counters(sku), counters(other)) == ((60, 60), (10_000, 120))


def test_two_sku_claims_in_opposite_order_with_releases_in_between_never_deadlock(
    deadlocks: list[OperationalError],
) -> None:
    first, second = sorted([make_stock(40), make_stock(40)])
    skus = [first, second]

    def shopper(number: int) -> None:
        mine: list[int] = []
        for turn in range(12):
            lines = [(sku, 1 + turn % 2) for sku in (skus if number % 2 else reversed(skus))]
            claim = make_claim(lines, order_id=new_order_id(shard=number % 2))
            if not services.reserve([claim], now=NOW)[claim.order_id]:
                mine.append(claim.order_id)
            if turn % 3 == 2:
                services.release(mine, now=NOW)
                mine.clear()
        services.release(mine, now=NOW)

    at_once([lambda number=number: shopper(number) for number in range(THREAD_COUNT)])

    assert deadlocks == []
    assert (counters(first), counters(second)) == ((40, 0), (40, 0))


def test_overlapping_releases_and_settlements_end_each_reservation_once(deadlocks: list[OperationalError]) -> None:
    skus = [make_stock(100) for _ in range(4)]
    claims = [
        make_claim([(skus[n % 4], 1), (skus[(n + 1) % 4], 1)], order_id=new_order_id(shard=n % 2)) for n in range(60)
    ]
    services.reserve(claims, now=NOW)
    orders = [claim.order_id for claim in claims]

    moved = at_once(
        [
            lambda number=number: (services.release if number % 2 else services.settle)(
                orders[number * 3 :] + orders[: number * 3], now=NOW
            )
            for number in range(8)
        ]
    )

    assert deadlocks == []
    assert sum(moved) == 60
    settled = Counter[str]()
    for hold in selectors.holds_of("inventory", orders):
        settled.update({sku: units for sku, units in hold.lines if hold.state == "settled"})
    assert [counters(sku) for sku in skus] == [(100 - settled[sku], 0) for sku in skus]


def test_units_given_back_are_sold_to_those_who_ask_again() -> None:
    sku = make_stock(10)
    winners = [make_claim([(sku, 1)], order_id=new_order_id(shard=n % 2)) for n in range(10)]
    services.reserve(winners, now=NOW)

    def cancel() -> int:
        return services.release([claim.order_id for claim in winners[:6]], now=NOW)

    def retry_until_bought(number: int) -> int:
        for _ in range(200):
            if _buy(sku, 1, shard=number % 2):
                return 1
        return 0

    results = at_once([cancel, *(lambda number=number: retry_until_bought(number) for number in range(6))])

    assert results[0] == 6
    assert sum(results[1:]) == 6
    assert counters(sku) == (10, 10)


def test_an_order_claimed_by_several_threads_is_held_once() -> None:
    sku = make_stock(5)
    claim = make_claim([(sku, 2)])
    assert at_once([lambda: services.reserve([claim], now=NOW)] * 8) == [{claim.order_id: ()}] * 8
    assert counters(sku) == (5, 2)


def test_adjustments_amid_reservations_lose_none() -> None:
    sku = make_stock(100)
    buyers = [lambda number=number: [_buy(sku, 1, shard=number % 2) for _ in range(5)] for number in range(6)]
    adjust = [lambda: [services.adjust(sku, to=100, reason="t", actor="t", now=NOW) for _ in range(5)]] * 2

    at_once([*buyers, *adjust])

    row = Stock.objects.get(sku=sku)
    assert row.reserved == 30 == sum(Reservation.objects.filter(sku=sku).values_list("quantity", flat=True))
    assert 70 <= row.available <= 100


@pytest.fixture
def unchecked_stock(committed: None) -> Iterator[None]:
    """Take away the table's CHECK, which would catch what the guard lets through."""
    check = next(one for one in Stock._meta.constraints if one.name == "stock_no_oversell")
    with connections["inventory"].schema_editor() as editor:
        editor.remove_constraint(Stock, check)
    try:
        yield
    finally:
        Stock.objects.filter(on_hand__lt=F("reserved") + F("allotted")).delete()
        with connections["inventory"].schema_editor() as editor:
            editor.add_constraint(Stock, check)


def test_without_the_guard_the_stock_is_oversold(unchecked_stock: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the very same code with the condition taken out of its UPDATE."""

    def unguarded(alias: str, quantities: Mapping[str, int]) -> int:
        return statements._move_counters(alias, quantities, changes="reserved = reserved + {units}", guard="TRUE")

    monkeypatch.setattr(statements, "add_reserved", unguarded)
    sku = make_stock(10)

    bought = at_once([lambda number=number: _buy(sku, 3, shard=number % 2) for number in range(6)])

    assert sum(bought) * 3 == counters(sku)[1] == 18


def test_an_absolute_write_beside_guarded_ones_oversells() -> None:
    """Negative control: one optimistic writer that sets `reserved` instead of raising it undoes what came between."""
    sku = make_stock(10)
    stale = Stock.objects.get(sku=sku)
    held = [_buy(sku, 1, shard=n % 2) for n in range(8)]

    Stock.objects.filter(sku=sku).update(reserved=stale.reserved + 2)  # a sale of 2, without looking at the version
    held += [_buy(sku, 1, shard=n % 2) for n in range(10)]

    assert sum(held) + 2 > 10
    assert Stock.objects.get(sku=sku).reserved == 10


def test_opposite_lock_orders_do_deadlock(deadlocks: list[OperationalError]) -> None:
    """Negative control: taking the members one after another, each in its own order, is what the batch avoids."""
    first, second = make_stock(10), make_stock(10)
    halfway = Barrier(2)

    def one_after_another(skus: tuple[str, str]) -> bool:
        try:
            with transaction.atomic(using="inventory"):
                statements.add_reserved("inventory", {skus[0]: 1})
                halfway.wait(timeout=10)
                statements.add_reserved("inventory", {skus[1]: 1})
        except OperationalError as error:
            return is_deadlock(error)
        return False

    lost = at_once([lambda: one_after_another((first, second)), lambda: one_after_another((second, first))])

    assert sorted(lost) == [False, True]
