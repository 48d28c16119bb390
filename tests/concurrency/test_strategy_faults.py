"""What becomes of claims when something dies on the way: the process, the queue's consumer, Redis."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.db import connections
from django.utils import timezone

from apps.inventory import selectors, services
from apps.inventory.domain import Strategy
from apps.inventory.selectors import find_hold
from apps.inventory.services.strategies import queue as queues
from apps.inventory.services.strategies import queued, sku_lock
from apps.inventory.services.strategies.queue import ClaimQueue
from apps.inventory.services.strategies.queued import QueueConsumer, hold_in_queue
from apps.orders.services import placement
from apps.orders.services.placement import place_order
from apps.orders.services.reaper import reap_stale_holds
from infra.errors import OutcomeUnknown, Overloaded
from tests.concurrency.test_inventory import at_once
from tests.factories.inventory import NOW, counters, make_claim, make_stock, new_order_id
from tests.factories.orders import make_buyer, make_sku, order_request
from tests.factories.processes import RedisServer
from tests.factories.strategies import ALL, choose, claim_once, forget_choices

ALIAS = "inventory"


@pytest.fixture(autouse=True)
def quick(committed: None, settings: Any) -> Iterator[None]:
    """Wait little, begin without a consumer in this process; afterwards every SKU is merged again."""
    _end_consumer()
    settings.STOCK_QUEUE_LEASE_S = 0.3
    settings.STOCK_QUEUE_TIMEOUT_S = 0.5
    settings.STOCK_LOCK_WAIT_S = 0.1
    yield
    forget_choices()


@pytest.fixture
def server(tmp_path: Path, settings: Any) -> Iterator[RedisServer]:
    """A Redis of the test's own in the place of redis-cache."""
    own = RedisServer(tmp_path)
    own.start()
    settings.REDIS_CACHE_URL = own.url
    settings.CACHES = {"default": settings.CACHES["default"] | {"LOCATION": own.url}}
    _begin_anew()
    yield own
    own.resume()
    _end_consumer()
    own.kill()
    _begin_anew()


def _end_consumer() -> None:
    """Have this process's consumer leave, as it does when it is not used."""
    consumer, idle_s = queued.consumer_of(ALIAS), queued._IDLE_S
    deadline = time.monotonic() + 10
    try:
        queued._IDLE_S = 0.0
        while consumer._thread is not None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        queued._IDLE_S = idle_s


def _begin_anew() -> None:
    """Forget connections, breakers and consumers of another Redis."""
    queues._redis_at.cache_clear()
    queued._consumers.clear()
    sku_lock._breaker.record_success()


def in_a_process(run: Callable[[], None]) -> int:
    """Run in a child, which is expected to die of it, and return the signal that it died of."""
    connections.close_all()
    pid = os.fork()
    if pid == 0:
        try:
            run()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def die(*args: Any, **kwargs: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def buy_all(sku: str, units: int, *, threads: int = 4) -> int:
    """Have one more buyer than units ask once each; return how many were served."""
    tasks = [lambda n=n: sum(_served(sku, n + t) for t in range(0, units + 1, threads)) for n in range(threads)]
    return sum(at_once(tasks))


def _served(sku: str, number: int) -> bool:
    return claim_once([(sku, 1)], number=number) is not None


# -- a process that dies between its claim and its order ------------------------------------------------------


@pytest.mark.parametrize("strategy", ALL)
def test_stock_that_a_killed_process_claimed_comes_back(strategy: Strategy) -> None:
    sku = make_sku(2)
    choose(strategy, sku)
    request = order_request(make_buyer(), [(sku, 2)])

    def place_and_die() -> None:
        placement._write = die
        place_order(request, now=timezone.now())

    assert in_a_process(place_and_die) == -signal.SIGKILL
    [hold] = find_hold(user_id=request.key.user_id, request_digest=request.key.digest)
    assert (hold.state, counters(sku)) == ("held", (2, 2))

    reap_stale_holds(now=timezone.now() + timedelta(seconds=31))

    assert counters(sku) == (2, 0)
    assert not place_order(request, now=timezone.now()).replayed
    assert counters(sku) == (2, 2)


@pytest.mark.parametrize("strategy", [Strategy.OPTIMISTIC, Strategy.PESSIMISTIC, Strategy.LOCK])
def test_a_process_that_is_killed_inside_its_claim_claims_nothing_and_blocks_nobody_for_long(
    strategy: Strategy,
) -> None:
    sku = make_stock(3)
    choose(strategy, sku)

    def claim_and_die() -> None:
        services.strategies.alone._take_sku = die
        claim_once([(sku, 1)])

    assert in_a_process(claim_and_die) == -signal.SIGKILL

    assert buy_all(sku, 3) == 3
    assert counters(sku) == (3, 3)


# -- the queue's consumer -------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["before its claim", "after its claim"])
def test_when_the_queues_consumer_is_killed_another_serves_what_it_had_begun(point: str) -> None:
    sku = make_stock(6)
    choose(Strategy.QUEUE, sku)
    claim = make_claim([(sku, 1)])

    def serve_and_die() -> None:
        if point == "before its claim":
            QueueConsumer.claim = die  # type: ignore[method-assign]
        else:
            ClaimQueue.tell = die  # type: ignore[method-assign]
        hold_in_queue(ALIAS, claim, now=NOW)

    assert in_a_process(serve_and_die) == -signal.SIGKILL
    assert counters(sku)[1] == (0 if point == "before its claim" else 1)

    served = buy_all(sku, 6)

    # The dead process's own claim is one of the six: made before it died, or by the consumer after it.
    assert served == 5
    assert selectors.holds_of(ALIAS, [claim.order_id])
    assert counters(sku) == (6, 6)


def test_a_turn_that_does_not_come_is_told_with_nothing_taken_now_or_later(settings: Any) -> None:
    settings.STOCK_QUEUE_WAIT_S = 0.1
    sku, queue = make_stock(5), ClaimQueue(ALIAS)
    choose(Strategy.QUEUE, sku)
    claim = make_claim([(sku, 1)])
    queue.begin("stalled", limit=1)  # another process has the lease and does not serve

    with pytest.raises(Overloaded):
        services.reserve([claim], now=NOW)
    queue.leave("stalled")

    assert claim_once([(sku, 1)])  # whoever serves now finds nothing of the first
    assert not selectors.holds_of(ALIAS, [claim.order_id])
    assert counters(sku) == (5, 1)


@pytest.mark.parametrize("units", [1, 0])
def test_a_claim_that_was_begun_and_has_no_reply_is_held_or_unknown(settings: Any, units: int) -> None:
    """Its consumer is stopped and may hold the claim yet. The request's own claim settles it, if there is stock."""
    settings.STOCK_QUEUE_WAIT_S, settings.STOCK_QUEUE_ANSWER_S = 0.1, 0.1
    sku, queue = make_stock(units), ClaimQueue(ALIAS)
    choose(Strategy.QUEUE, sku)
    claim = make_claim([(sku, 1)])
    begun = threading.Event()

    def stalled_consumer() -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not queue.begin("stalled", limit=5):
            pass
        begun.set()

    queue.begin("stalled", limit=1)
    thread = threading.Thread(target=stalled_consumer)
    thread.start()
    if units:
        assert services.reserve([claim], now=NOW) == {claim.order_id: ()}
        # The stopped consumer goes on: the order is held once.
        assert QueueConsumer(ALIAS).claim([claim], now=NOW)[claim.order_id].shortages == ()
    else:
        with pytest.raises(OutcomeUnknown):
            services.reserve([claim], now=NOW)
    thread.join()
    assert begun.is_set()
    queue.leave("stalled")
    assert counters(sku) == (units, units)


def test_two_consumers_at_once_hold_each_order_once_and_sell_no_unit_too_many() -> None:
    """A lease is no guard: a consumer that was stopped goes on beside the one that took over."""
    sku = make_stock(30)
    claims = [make_claim([(sku, 1)], order_id=new_order_id(shard=n % 2)) for n in range(40)]

    verdicts = at_once([lambda n=n: QueueConsumer(ALIAS).claim(claims[n:] + claims[:n], now=NOW) for n in (0, 7, 20)])

    held = {order_id for told in verdicts for order_id, reply in told.items() if reply.shortages == ()}
    assert len(held) == 30
    assert counters(sku) == (30, 30)


def test_a_claim_whose_reservation_is_closed_spoils_no_other_claim_of_its_batch() -> None:
    sku = make_stock(5)
    closed, fresh = make_claim([(sku, 1)]), make_claim([(sku, 1)])
    services.reserve([closed], now=NOW)
    services.release([closed.order_id], now=NOW)

    replies = QueueConsumer(ALIAS).claim([closed, fresh], now=NOW)

    assert [reply.shortages for reply in replies.values()] == [()]
    assert counters(sku) == (5, 1)


def test_a_consumer_ends_when_it_is_not_used_and_starts_again() -> None:
    sku = make_stock(2)
    choose(Strategy.QUEUE, sku)
    for _ in range(2):
        assert claim_once([(sku, 1)])
        _end_consumer()


# -- Redis ----------------------------------------------------------------------------------------------------

redis_strategies = pytest.mark.parametrize("strategy", [Strategy.LOCK, Strategy.QUEUE])


@redis_strategies
@pytest.mark.parametrize("fault", ["kill", "stop"])
def test_without_redis_exactly_the_stock_is_sold(server: RedisServer, strategy: Strategy, fault: str) -> None:
    """Dead, or there and silent. The first to notice may not know what became of their claims; they ask again."""
    sku = make_stock(6)
    choose(strategy, sku)
    assert claim_once([(sku, 1)])
    getattr(server, fault)()

    def buyer(number: int) -> int:
        held = 0
        for turn in range(4):
            with suppress(OutcomeUnknown):
                held += _served(sku, number + turn)
        return held

    assert sum(at_once([lambda n=n: buyer(n) for n in range(4)])) == 5
    assert counters(sku) == (6, 6)


@redis_strategies
def test_when_redis_dies_and_comes_back_empty_under_load_exactly_the_stock_is_sold(
    server: RedisServer, strategy: Strategy, settings: Any
) -> None:
    settings.STOCK_QUEUE_WAIT_S = settings.STOCK_QUEUE_ANSWER_S = 0.3
    sku = make_stock(60)
    choose(strategy, sku)
    sold_out = threading.Event()

    def disturb() -> None:
        for _ in range(3):
            server.empty()
            server.kill()
            server.start()
            if sold_out.wait(0.05):
                return

    def buyer(number: int) -> int:
        held = 0
        while True:
            try:
                if not _served(sku, number):
                    sold_out.set()
                    return held
            except OutcomeUnknown:
                continue
            held += 1

    _, *held = at_once([disturb, *(lambda n=n: buyer(n) for n in range(4))])

    assert counters(sku) == (60, 60)
    assert sum(held) == 60


def test_a_lock_is_given_back_by_its_owner_only(server: RedisServer, settings: Any) -> None:
    settings.STOCK_LOCK_LIFETIME_S = 0.05
    with sku_lock.sku_locks(["A"]):
        time.sleep(0.1)  # the lock is over, and another has it
        other = caches["default"].lock("stock-lock:A", timeout=10)
        assert other.acquire(blocking=False)
    assert other.owned()


def test_a_lock_keeps_others_waiting_and_is_not_waited_for_without_end(server: RedisServer) -> None:
    with sku_lock.sku_locks(["A", "B"]):
        began_at = time.monotonic()
        at_once([_enter_locks])
        assert time.monotonic() - began_at >= 0.08
    began_at = time.monotonic()
    _enter_locks()
    assert time.monotonic() - began_at < 0.08


def _enter_locks() -> None:
    with sku_lock.sku_locks(["A"]):
        pass
