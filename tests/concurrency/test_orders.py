"""Buyers at once, in real threads over both shards: exactly the stock is sold, and one key makes one order."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import cycle
from threading import Barrier, Semaphore
from typing import Any

import pytest
from django.conf import settings
from django.db import connections
from django.utils import timezone

from apps.inventory.selectors import find_hold
from apps.orders.api.rendering import order_json
from apps.orders.errors import InsufficientStock
from apps.orders.models import Order
from apps.orders.selectors import open_unpaid_counts
from apps.orders.services import placement
from apps.orders.services.cancellation import cancel_order
from apps.orders.services.placement import place_order
from apps.orders.services.reaper import reap_stale_holds
from apps.orders.services.stock import sync_due_stock
from apps.orders.types import OrderRequest, OrderView
from apps.users.services import make_bench_shoppers
from infra.errors import DomainError
from infra.idempotency.inflight import InFlight
from infra.sharding.months import Month
from infra.sharding.places import place_of_user
from tests.factories.inventory import counters
from tests.factories.orders import Buyer, make_buyer, make_sku, order_request

pytestmark = pytest.mark.usefixtures("committed")

# As many as the servers give connections to; the others wait their turn in front of the database, as in a pool.
CONNECTED_COUNT = 40


def at_once(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run the tasks in threads that start together; return what each returned or raised."""
    barrier, connected = Barrier(len(tasks)), Semaphore(CONNECTED_COUNT)

    def run(task: Callable[[], Any]) -> Any:
        barrier.wait(timeout=30)
        with connected:
            try:
                return task()
            except DomainError as refusal:
                return refusal
            finally:
                connections.close_all()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run, tasks))


def place(request: OrderRequest) -> OrderView:
    return place_order(request, now=timezone.now()).order


def buyers(count: int) -> list[Buyer]:
    """Return shoppers, spread over both shards."""
    people = [Buyer(shopper.user_id, shopper.address_id) for shopper in make_bench_shoppers(count)]
    assert {place_of_user(buyer.user_id).alias for buyer in people} == set(settings.SHARD_ALIASES)
    return people


def told(outcomes: Sequence[object]) -> Counter[str]:
    return Counter(type(outcome).__name__ for outcome in outcomes)


def orders_of(people: Sequence[Buyer]) -> int:
    """Return how many orders the shards hold for these shoppers."""
    month = Month.of(timezone.now())
    return sum(
        Order.objects.for_user(buyer.user_id, month).filter(user_id=buyer.user_id, kind=0).count() for buyer in people
    )


@pytest.mark.parametrize(("lines", "batch"), [(1, 64), (3, 64), (1, 1)])
def test_two_hundred_buyers_of_fifty_units_make_exactly_fifty_orders(lines: int, batch: int, settings: Any) -> None:
    """Also when each writes the SKU in several lines, which are one claim; in batches, and each by itself."""
    settings.ORDER_COMMIT_BATCH = batch
    sku, people = make_sku(50 * lines), buyers(200)
    requests = [order_request(buyer, [(sku, 1)] * lines) for buyer in people]

    outcomes = at_once([lambda request=request: place(request) for request in requests])

    assert told(outcomes) == {"OrderView": 50, "InsufficientStock": 150}
    assert orders_of(people) == 50
    assert counters(sku) == (50 * lines, 50 * lines)


def test_orders_of_two_skus_in_opposite_order_meet_no_deadlock() -> None:
    one, other, people = make_sku(50), make_sku(50), buyers(120)
    requests = [
        order_request(buyer, [(one, 1), (other, 1)] if number % 2 else [(other, 1), (one, 1)])
        for number, buyer in enumerate(people)
    ]

    outcomes = at_once([lambda request=request: place(request) for request in requests])

    assert told(outcomes) == {"OrderView": 50, "InsufficientStock": 70}
    assert counters(one) == counters(other) == (50, 50)


def test_with_cancels_in_between_never_more_than_fifty_and_fifty_in_the_end() -> None:
    sku, people = make_sku(50), buyers(150)
    requests = [order_request(buyer, [(sku, 1)]) for buyer in people]

    def buy_and_maybe_cancel(number: int) -> OrderView | None:
        order = place(requests[number])
        if number % 3:
            return order
        cancel_order(user_id=order.user_id, order_id=order.id, reason="", now=timezone.now())
        sync_due_stock(now=timezone.now())
        return None

    outcomes = at_once([lambda number=number: buy_and_maybe_cancel(number) for number in range(len(people))])

    assert counters(sku)[1] <= 50
    refused = [requests[n] for n, outcome in enumerate(outcomes) if isinstance(outcome, InsufficientStock)]
    while refused and counters(sku)[1] < 50:
        sync_due_stock(now=timezone.now())
        again = at_once([lambda request=request: place(request) for request in refused])
        refused = [r for r, outcome in zip(refused, again, strict=True) if isinstance(outcome, InsufficientStock)]
    month = Month.of(timezone.now())
    standing = sum(
        Order.objects.for_user(buyer.user_id, month).filter(user_id=buyer.user_id, status="pending_payment").count()
        for buyer in people
    )
    assert counters(sku) == (50, 50)
    assert standing == 50


class TwoWorkers:
    """In place of the process's `InFlight`: every other send comes to another process."""

    def __init__(self) -> None:
        self._workers = cycle([InFlight(), InFlight()])

    def run(self, *args: Any, **kwargs: Any) -> tuple[Any, bool]:
        return next(self._workers).run(*args, **kwargs)


@pytest.mark.parametrize("stock", [1, 100])
def test_a_hundred_sends_of_one_key_make_one_order(stock: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As over two workers: half of the sends join each other in one process, the others in another."""
    monkeypatch.setattr(placement, "_in_flight", TwoWorkers())
    sku = make_sku(stock)
    request = order_request(make_buyer(), [(sku, 1)])

    outcomes = at_once([lambda: place(request)] * 100)

    assert told(outcomes) == {"OrderView": 100}
    assert len({json.dumps(order_json(order)) for order in outcomes}) == 1
    assert counters(sku) == (stock, 1)


class Apart:
    """In place of `InFlight`: lets every send make its own attempt."""

    def run(self, key: object, attempt: Callable[[], Any], *, wait_s: float) -> tuple[Any, bool]:
        return attempt(), False


@pytest.fixture
def in_processes_of_their_own(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """Nothing joins requests before the databases: neither those of one key nor those of one batch."""
    monkeypatch.setattr(placement, "_in_flight", Apart())
    settings.ORDER_COMMIT_BATCH = 1


@pytest.mark.usefixtures("in_processes_of_their_own")
@pytest.mark.parametrize("stock", [1, 100])
def test_sends_of_one_key_from_many_processes_make_one_order(stock: int) -> None:
    sku = make_sku(stock)
    request = order_request(make_buyer(), [(sku, 1)])

    outcomes = at_once([lambda: place(request)] * 30)

    assert set(told(outcomes)) <= {"OrderView", "RequestInProgress"}
    orders = [outcome for outcome in outcomes if isinstance(outcome, OrderView)]
    assert len({order.id for order in orders}) == 1
    reap_stale_holds(now=timezone.now() + timedelta(seconds=settings.ORDER_WRITE_DEADLINE_S))
    assert counters(sku) == (stock, 1)


@pytest.mark.usefixtures("in_processes_of_their_own")
def test_without_a_look_at_the_earlier_attempts_hold_a_repeat_would_be_told_a_shortage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The negative control of the tests above: the guard is taken out."""
    monkeypatch.setattr(placement, "_wait_for_earlier_attempt", lambda place, key: None)
    insert = placement.insert_orders
    barrier = Barrier(2)

    def slowly(*args: Any, **kwargs: Any) -> None:
        insert(*args, **kwargs)
        barrier.wait(timeout=10)

    monkeypatch.setattr(placement, "insert_orders", slowly)
    request = order_request(make_buyer(), [(make_sku(1), 1)])

    def second() -> OrderView:
        while not find_hold(user_id=request.key.user_id, request_digest=request.key.digest):
            pass
        try:
            return place(request)
        finally:
            barrier.wait(timeout=10)

    outcomes = at_once([lambda: place(request), second])

    assert told(outcomes) == {"OrderView": 1, "InsufficientStock": 1}


def test_a_lost_answer_for_the_last_unit_is_given_again() -> None:
    sku, buyer = make_sku(1), make_buyer()
    request = order_request(buyer, [(sku, 1)])
    lost = place(request)
    others = [order_request(other, [(sku, 1)]) for other in buyers(20)]

    outcomes = at_once([lambda request=request: place(request) for request in (*others, request)])

    assert outcomes[-1] == lost
    assert told(outcomes[:-1]) == {"InsufficientStock": 20}


def _race_for_the_limit() -> tuple[Buyer, list[object]]:
    buyer, sku = make_buyer(), make_sku()
    requests = [order_request(buyer, [(sku, 1)], exempt=False) for _ in range(12)]
    return buyer, at_once([lambda request=request: place(request) for request in requests])


@pytest.mark.parametrize("batch", [1, 64])
def test_the_limit_of_unpaid_orders_holds_under_any_race(settings: Any, batch: int) -> None:
    settings.ORDER_MAX_OPEN_UNPAID, settings.ORDER_COMMIT_BATCH = 5, batch

    buyer, outcomes = _race_for_the_limit()

    assert told(outcomes) == {"OrderView": 5, "LimitReached": 7}
    alias = place_of_user(buyer.user_id).alias
    assert open_unpaid_counts(alias, [buyer.user_id], now=timezone.now()) == {buyer.user_id: 5}


@pytest.mark.usefixtures("in_processes_of_their_own")
def test_without_the_lock_of_the_customer_the_limit_would_not_hold(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: the guard is taken out, and the race made certain."""
    settings.ORDER_MAX_OPEN_UNPAID = 5
    barrier, check = Barrier(12), placement.check_open_unpaid_orders
    monkeypatch.setattr(placement, "lock_customers", lambda alias, user_ids: None)

    def together(*arguments: Any, **named: Any) -> None:
        try:
            check(*arguments, **named)
        finally:
            barrier.wait(timeout=10)

    monkeypatch.setattr(placement, "check_open_unpaid_orders", together)

    _, outcomes = _race_for_the_limit()

    assert told(outcomes)["OrderView"] > 5


def test_a_cancel_and_a_repeated_cancel_at_once_are_one_event() -> None:
    order = place(order_request(make_buyer(), [(make_sku(), 1)]))

    outcomes = at_once(
        [lambda: cancel_order(user_id=order.user_id, order_id=order.id, reason="", now=timezone.now())] * 8
    )

    assert {outcome.version for outcome in outcomes} == {2}
