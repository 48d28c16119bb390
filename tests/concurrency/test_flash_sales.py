"""Buyers of a flash sale at once over both shards: exactly the quota is sold, nobody gets more than the limit, and
everyone else is told why; and the same without the guards, to show that these tests would see it."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import cycle
from threading import Barrier
from typing import Any

import pytest
from django.conf import settings
from django.db import connections
from django.utils import timezone

from apps.orders.services import flash_placement
from apps.orders.services.cancellation import cancel_order
from apps.orders.services.flash_placement import place_flash_order
from apps.orders.services.flash_sales import end_sale, sweep_sales
from apps.orders.services.stock import sync_due_stock
from apps.orders.types import FlashOrderRequest, OrderView
from apps.promotions import statements
from apps.promotions.selectors import get_sale
from apps.promotions.types import Sale
from infra.errors import Overloaded
from infra.idempotency.inflight import InFlight
from tests.concurrency.test_orders import at_once, buyers, told
from tests.factories.orders import Buyer, make_buyer
from tests.factories.promotions import (
    allotments,
    bought,
    counters_of,
    flash_request,
    held_orders,
    make_sale,
    quotas,
    sold,
    transfers_under_way,
)

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture(autouse=True)
def look_again() -> None:
    """Have nothing believed to be sold out because of an earlier test."""
    flash_placement.forget_sold_out()


def place(request: FlashOrderRequest) -> OrderView:
    return place_flash_order(request, now=timezone.now()).order


def buy_at_once(sale: Sale, people: Sequence[Buyer], **changes: Any) -> list[Any]:
    """Have all of them buy at the same moment; those who are told to come again come again."""
    requests = [flash_request(sale, buyer, **changes) for buyer in people]
    outcomes = at_once([lambda request=request: place(request) for request in requests])
    for _ in range(20):
        again = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Overloaded)]
        if not again:
            break
        for number, outcome in zip(
            again, at_once([lambda number=number: place(requests[number]) for number in again]), strict=True
        ):
            outcomes[number] = outcome
    return outcomes


@pytest.mark.parametrize("batch", [1, 64])
def test_a_hundred_and_twenty_buyers_of_thirty_units_make_exactly_thirty_orders(settings: Any, batch: int) -> None:
    settings.ORDER_COMMIT_BATCH = batch
    sale, people = make_sale(quota=30, on_hand=50), buyers(120)

    outcomes = buy_at_once(sale, people)

    assert told(outcomes) == {"OrderView": 30, "SoldOut": 90}
    assert len(held_orders(sale)) == sold(sale) == sum(quotas(sale)) == 30
    assert {bought(sale, buyer) for buyer in people} == {0, 1}
    assert counters_of(sale) == (50, 0, 30)
    assert transfers_under_way(sale) == 0


@pytest.mark.parametrize("batch", [1, 64])
def test_buyers_of_one_shard_get_all_units_of_both(settings: Any, batch: int) -> None:
    settings.ORDER_COMMIT_BATCH = batch
    sale = make_sale(quota=25)
    people = [make_buyer(shard=1) for _ in range(40)]

    outcomes = buy_at_once(sale, people)

    assert told(outcomes) == {"OrderView": 25, "SoldOut": 15}
    assert quotas(sale) == [0, 25]


def test_the_last_unit_has_one_buyer_wherever_it_lies() -> None:
    sale, people = make_sale(quota=1), buyers(24)

    outcomes = buy_at_once(sale, people)

    assert told(outcomes) == {"OrderView": 1, "SoldOut": 23}
    assert sold(sale) == 1


class TwoWorkers:
    """In place of what a process keeps to itself: every other request comes to another process."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._workers = cycle([make(), make()])

    def run(self, *args: Any, **kwargs: Any) -> Any:
        return next(self._workers).run(*args, **kwargs)

    def turn(self, *args: Any, **kwargs: Any) -> Any:
        return next(self._workers).turn(*args, **kwargs)


class NoTurns:
    """In place of `OneAtATime`: every request in a process of its own."""

    def turn(self, buyer: object, *, wait_s: float) -> Any:
        return nullcontext()


@pytest.fixture
def in_processes_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing keeps the requests of one buyer apart before the database does."""
    monkeypatch.setattr(flash_placement, "_turns", NoTurns())


@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("fixture", [None, "in_processes_of_their_own"])
def test_the_limit_holds_for_one_buyer_who_sends_many_requests_at_once(
    settings: Any, batch: int, fixture: str | None, request: pytest.FixtureRequest
) -> None:
    if fixture:
        request.getfixturevalue(fixture)
    settings.ORDER_COMMIT_BATCH = batch
    sale, buyer = make_sale(quota=30, per_user_limit=3), make_buyer()

    outcomes = buy_at_once(sale, [buyer] * 20)

    assert told(outcomes) == {"OrderView": 3, "PurchaseLimitReached": 17}
    assert (bought(sale, buyer), sold(sale)) == (3, 3)


def test_a_hundred_sends_of_one_key_make_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """As over two workers: of the last unit, and none is told that it is gone."""
    monkeypatch.setattr(flash_placement, "_in_flight", TwoWorkers(InFlight))
    monkeypatch.setattr(flash_placement, "_turns", NoTurns())
    sale = make_sale(quota=1)
    request = flash_request(sale, make_buyer())

    outcomes = at_once([lambda: place(request)] * 60)

    assert told(outcomes) == {"OrderView": 60}
    assert len({order.id for order in outcomes}) == 1
    assert sold(sale) == 1


def test_units_that_come_back_are_sold_until_all_are_kept() -> None:
    sale, people = make_sale(quota=20), buyers(60)
    requests = [flash_request(sale, buyer) for buyer in people]

    def buy_and_maybe_cancel(number: int) -> OrderView | None:
        order = place(requests[number])
        if number % 3:
            return order
        cancel_order(user_id=order.user_id, order_id=order.id, reason="", now=timezone.now())
        sync_due_stock(now=timezone.now())
        return None

    outcomes = at_once([lambda number=number: buy_and_maybe_cancel(number) for number in range(len(people))])

    waiting = [requests[n] for n, outcome in enumerate(outcomes) if not isinstance(outcome, OrderView | None)]
    for _ in range(20):
        sync_due_stock(now=timezone.now())
        flash_placement.forget_sold_out()
        if not waiting or sold(sale) == 20:
            break
        again = at_once([lambda request=request: place(request) for request in waiting])
        waiting = [r for r, outcome in zip(waiting, again, strict=True) if not isinstance(outcome, OrderView)]
    assert sold(sale) == len(held_orders(sale)) == sum(quotas(sale)) == 20


def test_an_end_in_the_middle_of_the_rush_leaves_each_unit_sold_or_in_stock() -> None:
    sale, people = make_sale(quota=60), buyers(60)
    requests = [flash_request(sale, buyer) for buyer in people]

    outcomes = at_once(
        [
            lambda: end_sale(sale.id, now=timezone.now()),
            *(lambda request=request: place(request) for request in requests),
        ]
    )
    sweep_sales(now=timezone.now())

    orders = [outcome for outcome in outcomes[1:] if isinstance(outcome, OrderView)]
    assert set(told(outcomes[1:])) <= {"OrderView", "SaleEnded", "Overloaded"}
    assert get_sale(sale.id).state == "ended"
    assert sold(sale) == sum(quotas(sale)) == len(held_orders(sale)) == len(orders)
    assert counters_of(sale) == (60, 0, len(orders))
    assert all(allotment.closed for allotment in allotments(sale).values())


# -- without the guards -----------------------------------------------------------------------------------------------


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Take out the last net, the CHECK constraints of allotments, so that a missing guard shows as itself."""
    constraints = {"allotment_no_oversell": "sold <= quota", "allotment_settled": "settled >= 0 AND settled <= sold"}

    def run(sql: str) -> None:
        for alias in settings.SHARD_ALIASES:
            with connections[alias].cursor() as cursor:
                for name, condition in constraints.items():
                    cursor.execute(sql.format(name=name, condition=condition))

    run("ALTER TABLE promotions_allotment DROP CONSTRAINT {name}")
    try:
        yield
    finally:
        for alias in settings.SHARD_ALIASES:
            with connections[alias].cursor() as cursor:
                cursor.execute("UPDATE promotions_allotment SET quota = sold WHERE sold > quota")
        run("ALTER TABLE promotions_allotment ADD CONSTRAINT {name} CHECK ({condition})")


def test_without_the_guard_on_the_quota_the_sale_is_oversold(unchecked: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the very same code with the condition taken out of its UPDATE."""
    monkeypatch.setattr(statements, "_HAS_UNITS", "closed = 0 AND %s > 0")
    sale, people = make_sale(quota=10), buyers(24)

    outcomes = buy_at_once(sale, people)

    assert told(outcomes) == {"OrderView": 24}
    assert sold(sale) == 24


def test_with_the_guard_left_out_the_database_refuses_to_oversell(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last net: the CHECK constraint."""
    monkeypatch.setattr(statements, "_HAS_UNITS", "closed = 0 AND %s > 0")
    sale, people = make_sale(quota=4), [make_buyer(shard=0) for _ in range(5)]

    told_as = Counter()
    for buyer in people:
        try:
            place(flash_request(sale, buyer))
        except Exception as refusal:  # noqa: BLE001 - whatever the database says
            told_as[type(refusal).__name__] += 1

    assert sold(sale) == 2
    assert sum(told_as.values()) == 3


@pytest.mark.usefixtures("in_processes_of_their_own")
def test_without_the_guard_on_purchases_a_buyer_gets_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: all read what the buyer has before any of them writes, and the guard is taken out."""
    sale, buyer = make_sale(quota=30, per_user_limit=3), make_buyer()
    place(flash_request(sale, buyer))
    barrier, read = Barrier(6), flash_placement.bought_by

    def together(*args: Any) -> Any:
        found = read(*args)
        barrier.wait(timeout=10)
        return found

    monkeypatch.setattr(flash_placement, "bought_by", together)
    monkeypatch.setattr(statements, "_WITHIN_LIMIT", "%s <= %s")

    outcomes = at_once([lambda: place(flash_request(sale, buyer))] * 6)

    assert told(outcomes) == {"OrderView": 6}
    assert bought(sale, buyer) == 7
