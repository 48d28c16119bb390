"""A worker is stopped (SIGSTOP) inside and between its two commits until the reaper has come, then goes on.

Real processes, forked from the test. Whatever comes first, an order has its stock, and stock without an order is back.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from secrets import token_hex
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError, connections
from django.utils import timezone

from apps.inventory import statements
from apps.inventory.selectors import find_hold
from apps.orders.services import placement
from apps.orders.services.placement import place_order
from apps.orders.services.reaper import reap_stale_holds
from infra.errors import DomainError
from infra.idempotency.errors import RequestInProgress
from infra.mysql.retry import is_lock_wait_timeout
from tests.factories.inventory import counters
from tests.factories.orders import Buyer, make_buyer, make_sku, order_request, order_rows

pytestmark = pytest.mark.usefixtures("committed")


POINTS = ("inside the first", "between", "inside the second", "after the second")


def stop() -> None:
    """Stop this process before this thread does anything more."""
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def stopping(step: Callable[..., Any], *, before: bool) -> Callable[..., Any]:
    """Return the step with a stop of this process before or after it."""

    def stopped(*args: Any, **kwargs: Any) -> Any:
        if before:
            stop()
        result = step(*args, **kwargs)
        if not before:
            stop()
        return result

    return stopped


def put_stop_into_placing(point: str) -> None:
    """Have this process stop itself at a point; nothing in the application knows of it."""
    if point == "inside the first":
        statements.add_reserved = stopping(statements.add_reserved, before=False)
    elif point == "between":
        placement._write = stopping(placement._write, before=True)
    elif point == "inside the second":
        placement.insert_orders = stopping(placement.insert_orders, before=False)
    else:
        placement._write = stopping(placement._write, before=False)


def end_idle_transactions_soon() -> None:
    """Have the servers end the transactions of this process, once it is silent, earlier than in production."""
    for alias in ("inventory", *settings.SHARD_ALIASES):
        settings.DATABASES[alias]["POOL"] = settings.DATABASES[alias].get("POOL", {}) | {
            "idle_transaction_timeout_s": 2
        }
        del connections[alias]  # the one inherited has read its options


@dataclass
class StalledSend:
    """A process that stops itself on the way through one request."""

    buyer: Buyer
    sku: str
    key: str = field(default_factory=token_hex)

    def start(self, point: str) -> None:
        """Fork the process and wait until it has stopped."""
        connections.close_all()  # a connection belongs to one process
        self._answers, answers = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                put_stop_into_placing(point)
                end_idle_transactions_soon()
                os.write(answers, self._send().encode())
            finally:
                os._exit(0)
        os.close(answers)
        _, status = os.waitpid(self._pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def _send(self) -> str:
        try:
            return f"placed {place(self.request).order.id}"
        except DomainError as refusal:
            return f"refused {refusal.code}"
        except Exception as error:  # noqa: BLE001 - the test says which may be
            return f"failed {type(error).__name__}"

    def go_on(self) -> str:
        """Let it go on and return how its request ended."""
        os.kill(self._pid, signal.SIGCONT)
        with os.fdopen(self._answers) as answers:
            ended = answers.read()
        self._end()
        return ended

    def kill(self) -> None:
        """Kill -9."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.close(self._answers)
            self._end()

    def _end(self) -> None:
        os.waitpid(self._pid, 0)
        self._pid = 0

    @property
    def request(self):
        """The same request, to be sent again from this process."""
        return order_request(self.buyer, [(self.sku, 1)], key=self.key)

    @property
    def hold_states(self) -> list[str]:
        """What this request holds or held."""
        key = self.request.key
        return [hold.state for hold in find_hold(user_id=key.user_id, request_digest=key.digest)]


@pytest.fixture
def stalled() -> Iterator[Callable[..., StalledSend]]:
    sends: list[StalledSend] = []

    def start(point: str, *, shard: int = 0, units: int = 1) -> StalledSend:
        send = StalledSend(make_buyer(shard=shard), make_sku(units))
        sends.append(send)
        send.start(point)
        return send

    yield start
    for send in sends:
        send.kill()


def reap_until(settled: Callable[[], bool], *, timeout_s: float = 15.0) -> None:
    """Let the reaper come, again and again as beat does, as if the write deadline had passed."""
    give_up_at = time.monotonic() + timeout_s
    while not settled():
        assert time.monotonic() < give_up_at
        reap_stale_holds(now=timezone.now() + timedelta(seconds=settings.ORDER_WRITE_DEADLINE_S))


def place(request):
    return place_order(request, now=timezone.now())


@pytest.mark.parametrize("point", ["between", "inside the second"])
@pytest.mark.parametrize("shard", [0, 1])
def test_a_writer_that_was_reaped_meanwhile_is_refused_and_its_stock_is_back(stalled, point, shard):
    send = stalled(point, shard=shard)
    assert send.hold_states == ["held"]

    reap_until(lambda: send.hold_states == ["released"])
    ended = send.go_on()

    # Refused with nothing taken, or told that nobody knows: never `placed`. The client repeats either.
    assert ended.startswith(("refused overloaded", "refused outcome_unknown", "refused shard_unavailable", "failed"))
    assert counters(send.sku) == (1, 0)
    again = place(send.request)
    assert not again.replayed
    assert counters(send.sku) == (1, 1)


def place_again_while_locked(request, *, within_s):
    give_up_at = time.monotonic() + within_s
    while True:
        try:
            return place(request)
        except OperationalError as error:
            if not is_lock_wait_timeout(error) or time.monotonic() > give_up_at:
                raise


def test_a_reserve_that_was_stopped_before_its_commit_holds_nothing_for_long(stalled):
    send = stalled("inside the first", units=1)
    assert send.hold_states == []

    # Another buyer of the last unit meets the stopped one's row lock, until the server ends that transaction.
    other = place_again_while_locked(order_request(make_buyer(shard=1), [(send.sku, 1)]), within_s=15)

    assert send.go_on().startswith(("refused", "failed"))
    reap_until(lambda: "held" not in send.hold_states)
    assert counters(send.sku) == (1, 1)
    assert [row.status for row in order_rows(other.order.id)] == ["pending_payment"]


def test_an_order_whose_writer_was_stopped_before_its_answer_stands(stalled):
    send = stalled("after the second")

    reap_until(lambda: send.hold_states == ["confirmed"])
    ended = send.go_on()

    assert ended.startswith("placed ")
    again = place(send.request)
    assert again.replayed
    assert ended == f"placed {again.order.id}"
    assert counters(send.sku) == (1, 1)


def test_while_the_writer_is_stopped_a_repeat_gets_no_verdict(stalled, settings):
    settings.ORDER_REPEAT_WAIT_S = 0.2
    send = stalled("between")

    with pytest.raises(RequestInProgress):
        place(send.request)
    ended = send.go_on()

    assert ended.startswith("placed ")
    assert place(send.request).replayed
    assert counters(send.sku) == (1, 1)


@pytest.mark.parametrize("point", POINTS)
def test_a_writer_that_is_killed_leaves_an_order_with_stock_or_neither(stalled, point):
    send = stalled(point, units=3)

    send.kill()
    reap_until(lambda: "held" not in send.hold_states)

    again = place(send.request)
    assert again.replayed == (point == "after the second")
    assert counters(send.sku) == (3, 1)
