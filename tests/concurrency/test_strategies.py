"""Every strategy sells exactly what there is: alone, beside each other, and switched under load; and what happens
without their guards."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations, cycle
from threading import Barrier, Event
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.utils import timezone

from apps.inventory import locks, selectors, services, statements
from apps.inventory.domain import Strategy
from apps.inventory.models import Reservation, Stock
from apps.inventory.services.strategies import alone, in_force
from apps.orders.services.cancellation import cancel_order
from apps.orders.services.placement import place_order
from apps.orders.services.stock import sync_due_stock
from tests.concurrency.test_inventory import at_once, deadlocks, unchecked_stock
from tests.concurrency.test_orders import at_once as orders_at_once
from tests.concurrency.test_orders import buyers, in_processes_of_their_own, orders_of, place, told
from tests.factories.inventory import NOW, counters, make_claim, make_stock, new_order_id
from tests.factories.orders import make_buyer, make_sku, order_request
from tests.factories.strategies import (
    ALL,
    Disagreeing,
    choose,
    claim_once,
    forget_choices,
    verdict_on,
    without_guard,
)

__all__ = ["deadlocks", "in_processes_of_their_own", "unchecked_stock"]

pytestmark = pytest.mark.usefixtures("committed", "patient")

THREAD_COUNT = 12
each_strategy = pytest.mark.parametrize("strategy", ALL)


@pytest.fixture
def patient(committed: None, settings: Any) -> Iterator[None]:
    """Let a slow machine take its time over a turn in the queue; afterwards every SKU is merged again."""
    settings.STOCK_QUEUE_WAIT_S = 20.0
    settings.ORDER_APART_WAIT_S = 20.0
    yield
    forget_choices()


def held_units(*skus: str) -> Counter[str]:
    """Return what the reservations hold of each SKU."""
    units: Counter[str] = Counter(dict.fromkeys(skus, 0))
    for sku, quantity in Reservation.objects.filter(sku__in=skus, state=1).values_list("sku", "quantity"):
        units[sku] += quantity
    return units


@each_strategy
def test_buyers_who_ask_once_buy_exactly_the_stock(strategy: Strategy) -> None:
    sku = make_stock(30)
    choose(strategy, sku)

    bought = at_once(
        [
            lambda number=number: [claim_once([(sku, 1)], number=number + turn) for turn in range(5)]
            for number in range(THREAD_COUNT)
        ]
    )

    assert sum(order_id is not None for orders in bought for order_id in orders) == 30
    assert counters(sku) == (30, 30)
    assert held_units(sku)[sku] == 30


@pytest.mark.parametrize(("one", "other"), list(combinations(ALL, 2)))
def test_orders_of_two_strategies_are_whole_or_nothing(
    one: Strategy, other: Strategy, deadlocks: list[OperationalError]
) -> None:
    """Alone and together, listed in either order, with some given back in between; one of the two SKUs is scarce."""
    first, second = sorted([make_stock(10), make_stock(15)])
    choose(one, first)
    choose(other, second)

    def shopper(number: int) -> list[int]:
        mine = []
        for turn in range(4):
            lines = ([(first, 1), (second, 1)], [(second, 1), (first, 1)], [(first, 1)], [(second, 2)])[
                (number + turn) % 4
            ]
            order_id = claim_once(lines, number=number + turn)
            if order_id is not None:
                mine.append(order_id)
            if turn == 2 and mine:
                services.release([mine.pop()], now=NOW)
        return mine

    kept = [order_id for orders in at_once([lambda n=n: shopper(n) for n in range(6)]) for order_id in orders]
    while claim_once([(first, 1)]) or claim_once([(second, 1)]):
        pass  # what was given back last

    assert deadlocks == []
    for sku in (first, second):
        on_hand, reserved = counters(sku)
        assert reserved == on_hand == held_units(sku)[sku]
    holds = selectors.holds_of("inventory", kept)
    assert {hold.order_id for hold in holds} == set(kept)
    assert {len(hold.lines) for hold in holds} == {1, 2}


def test_every_shortage_of_an_order_of_all_strategies_is_told_and_nothing_is_held() -> None:
    plenty = {strategy: make_stock(9) for strategy in ALL}
    scarce = {strategy: make_stock(1) for strategy in ALL}
    for strategy in ALL:
        choose(strategy, plenty[strategy], scarce[strategy])
    claim = make_claim([(sku, 2) for sku in (*plenty.values(), *scarce.values())])

    assert {(short.sku, short.available) for short in verdict_on(claim)} == {(sku, 1) for sku in scarce.values()}

    assert not selectors.holds_of("inventory", [claim.order_id])
    assert {counters(sku) for sku in plenty.values()} == {(9, 0)}
    assert claim_once([(sku, 2) for sku in plenty.values()])
    assert {counters(sku) for sku in plenty.values()} == {(9, 2)}


def test_strategies_are_switched_under_load() -> None:
    sku, sold_out = make_stock(60), Event()
    switches = 0

    def switch() -> None:
        nonlocal switches
        for strategy in cycle(ALL):
            choose(strategy, sku)
            switches += 1
            if sold_out.wait(0.01):
                return

    def buyer(number: int) -> int:
        held = 0
        while claim_once([(sku, 1)], number=number):
            held += 1
        sold_out.set()
        return held

    _, *held = at_once([switch, *(lambda n=n: buyer(n) for n in range(THREAD_COUNT))])

    assert sum(held) == 60
    assert counters(sku) == (60, 60)
    assert switches > len(ALL)


def test_processes_that_disagree_on_the_strategy_sell_exactly_the_stock(monkeypatch: pytest.MonkeyPatch) -> None:
    """As within the seconds after a switch; one claims by each strategy, and one in batches."""
    beliefs = Disagreeing()
    sku = make_stock(60)

    def one_by_one(strategy: Strategy) -> int:
        with beliefs.believing({sku: strategy}):
            return sum(claim_once([(sku, 1)], number=turn) is not None for turn in range(20))

    def batches() -> int:
        held = 0
        for _ in range(5):
            claims = [make_claim([(sku, 1)], order_id=new_order_id(shard=n % 2)) for n in range(4)]
            held += sum(not shortages for shortages in services.reserve(claims, now=NOW).values())
        return held

    with monkeypatch.context() as patched:
        patched.setattr(in_force, "_in_force", beliefs)
        held = at_once([batches, *(lambda strategy=strategy: one_by_one(strategy) for strategy in ALL * 2)])

    assert sum(held) == 60
    assert counters(sku) == (60, 60)


@each_strategy
def test_units_given_back_are_sold_to_those_who_ask_again(strategy: Strategy) -> None:
    sku = make_stock(8)
    choose(strategy, sku)
    winners = [claim_once([(sku, 1)], number=n) for n in range(8)]

    def retry_until_bought(number: int) -> int:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if claim_once([(sku, 1)], number=number):
                return 1
        return 0

    released, *bought = at_once(
        [
            lambda: services.release([order_id for order_id in winners[:5] if order_id], now=NOW),
            *(lambda n=n: retry_until_bought(n) for n in range(5)),
        ]
    )

    assert (released, sum(bought)) == (5, 5)
    assert counters(sku) == (8, 8)


@each_strategy
def test_an_order_claimed_by_several_threads_is_held_once(strategy: Strategy) -> None:
    sku = make_stock(5)
    choose(strategy, sku)
    claim = make_claim([(sku, 5)])
    assert at_once([lambda: verdict_on(claim)] * 6) == [()] * 6
    assert counters(sku) == (5, 5)


@each_strategy
def test_orders_are_placed_and_cancelled_and_the_rest_is_told_a_shortage(strategy: Strategy) -> None:
    sku, people = make_sku(12), buyers(24)
    choose(strategy, sku)

    outcomes = orders_at_once([lambda buyer=buyer: place(order_request(buyer, [(sku, 1)])) for buyer in people])

    assert told(outcomes) == {"OrderView": 12, "InsufficientStock": 12}
    assert orders_of(people) == 12
    order = next(outcome for outcome in outcomes if hasattr(outcome, "user_id"))
    cancel_order(user_id=order.user_id, order_id=order.id, reason="", now=timezone.now())
    sync_due_stock(now=timezone.now())
    assert counters(sku) == (12, 11)
    place(order_request(make_buyer(), [(sku, 1)]))
    assert counters(sku) == (12, 12)


@each_strategy
@pytest.mark.usefixtures("in_processes_of_their_own")
def test_sends_of_one_key_make_one_order_and_keep_one_hold(strategy: Strategy) -> None:
    sku = make_sku(100)
    choose(strategy, sku)
    request = order_request(make_buyer(), [(sku, 1)])

    outcomes = orders_at_once([lambda: place(request)] * 12)

    assert set(told(outcomes)) <= {"OrderView", "RequestInProgress"}
    again = place_order(request, now=timezone.now())
    assert again.replayed
    assert counters(sku) == (100, 1)


# -- without the guards ---------------------------------------------------------------------------------------


@pytest.fixture
def met_halfway(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have claims meet between their look at the stock and their write, as many as are said."""

    def meet(count: int) -> None:
        barrier, take = Barrier(count), alone._take

        def together(*args: Any) -> bool:
            barrier.wait(timeout=10)
            return take(*args)

        monkeypatch.setattr(alone, "_take", together)
        monkeypatch.setattr(alone, "with_deadlock_retry", lambda transaction: transaction())

    return meet


def buy_at_once(sku: str, count: int, units: int) -> int:
    """Return how many of so many buyers of so many units each were told that they have them."""
    return sum(
        order_id is not None
        for order_id in at_once([lambda n=n: claim_once([(sku, units)], number=n) for n in range(count)])
    )


@pytest.fixture
def one_try(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what decides after lost races, so that each claim is the strategy's alone."""
    settings.STOCK_CLAIM_ATTEMPTS = 1
    monkeypatch.setattr(alone, "hold_together", lambda alias, claims, now: {claims[0].order_id: ("lost",)})


@pytest.mark.usefixtures("unchecked_stock", "one_try")
def test_the_version_alone_keeps_optimistic_claims_from_overselling(
    monkeypatch: pytest.MonkeyPatch, met_halfway: Callable[[int], None]
) -> None:
    without_guard(monkeypatch, statements)
    sku = make_stock(10)
    choose(Strategy.OPTIMISTIC, sku)
    met_halfway(4)
    assert buy_at_once(sku, 4, units=6) == 1
    assert counters(sku) == (10, 6)


@pytest.mark.usefixtures("unchecked_stock", "one_try")
def test_without_the_look_at_the_version_optimistic_claims_oversell(
    monkeypatch: pytest.MonkeyPatch, met_halfway: Callable[[int], None]
) -> None:
    without_guard(monkeypatch, statements)
    monkeypatch.setattr(
        statements,
        "add_reserved_at_version",
        lambda alias, sku, units, version: statements.add_reserved(alias, {sku: units}),
    )
    sku = make_stock(10)
    choose(Strategy.OPTIMISTIC, sku)
    met_halfway(4)
    assert buy_at_once(sku, 4, units=6) == 4
    assert counters(sku) == (10, 24)


@pytest.mark.usefixtures("unchecked_stock", "one_try")
@pytest.mark.parametrize("is_locked", [True, False])
def test_the_row_lock_alone_keeps_pessimistic_claims_from_overselling(
    monkeypatch: pytest.MonkeyPatch, met_halfway: Callable[[int], None], is_locked: bool
) -> None:
    without_guard(monkeypatch, statements)
    if not is_locked:
        barrier = Barrier(4)

        def unlocked(alias: str, skus: list[str]) -> dict[str, Stock]:
            rows = {row.sku: row for row in Stock.objects.using(alias).filter(sku__in=skus)}
            barrier.wait(timeout=10)
            return rows

        monkeypatch.setattr(locks, "lock_stock", unlocked)
    sku = make_stock(10)
    with _chosen_before(monkeypatch, sku, Strategy.PESSIMISTIC):
        met_halfway(4)
        bought = buy_at_once(sku, 4, units=6)
    assert bought == (1 if is_locked else 4)


@pytest.mark.usefixtures("unchecked_stock", "one_try")
@pytest.mark.parametrize("is_guarded", [True, False])
def test_a_redis_lock_that_was_lost_oversells_only_without_the_guard(
    monkeypatch: pytest.MonkeyPatch, met_halfway: Callable[[int], None], is_guarded: bool
) -> None:
    if not is_guarded:
        without_guard(monkeypatch, statements)
    monkeypatch.setattr(alone, "sku_locks", lambda skus: _nothing())
    sku = make_stock(10)
    choose(Strategy.LOCK, sku)
    met_halfway(4)
    assert buy_at_once(sku, 4, units=6) == (1 if is_guarded else 4)


@pytest.mark.usefixtures("unchecked_stock")
@pytest.mark.parametrize("strategy", [Strategy.MERGED, Strategy.QUEUE])
def test_without_the_guard_merged_and_queued_claims_oversell(
    monkeypatch: pytest.MonkeyPatch, strategy: Strategy
) -> None:
    without_guard(monkeypatch, statements)
    sku = make_stock(10)
    choose(strategy, sku)
    assert buy_at_once(sku, 4, units=6) == 4
    assert counters(sku) == (10, 24)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _chosen_before(monkeypatch: pytest.MonkeyPatch, sku: str, strategy: Strategy) -> Iterator[None]:
    """Choose in this process only, where the staff's choice would meet what a test has put in place of locks."""
    monkeypatch.setattr(in_force._in_force, "by_sku", {sku: strategy})
    yield
    connections["inventory"].close()
