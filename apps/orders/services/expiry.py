"""Ending orders that nobody paid in time, by an indexed scan of each shard."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from cachetools import TTLCache
from django.conf import settings

from apps.orders.domain import Closure, OrderStatus, PaymentStatus
from apps.orders.errors import OrderChanged
from apps.orders.events import EXPIRED
from apps.orders.models import Order
from apps.orders.selectors import find_order
from apps.orders.services.payment import record_payment_outcome
from apps.orders.services.stock import owe_stock_change
from apps.orders.services.transitions import advance_all
from apps.orders.types import SweepReport
from apps.payments.errors import ProviderRefused, ProviderTimeout, ProviderUnavailable
from apps.payments.selectors import attempts_of, orders_with_open_attempts
from apps.payments.services import ask_provider, cancel_open_attempts
from apps.payments.types import OPEN_ATTEMPTS
from infra.followups.rounds import shard_round
from infra.sharding.ids import slot_of
from infra.sharding.monthly import existing_months
from infra.sharding.months import Month
from infra.sharding.named_lock import NamedLockTimeout, named_lock
from infra.sharding.places import place_of_order, shard_atomic

BATCH_SIZE: Final = 100
TURN_S: Final = 15.0
"""So long a sweep of one shard goes on, and a batch longer; beat begins the next one within seconds."""
_WAITING: Final = (OrderStatus.PENDING_PAYMENT, PaymentStatus.UNPAID)
# Columns that a sweep does not need; each costs a decryption a row.
_UNNEEDED: Final = ("address", "note", "cancel_reason")
# A month that has ended without an unpaid order gets none any more: it is asked about again only for moved slots.
_DRAINED_FOR_S: Final = 600
_drained: Final[TTLCache[tuple[str, Month], bool]] = TTLCache(maxsize=10_000, ttl=_DRAINED_FOR_S)


class ExpirySweep:
    """One pass over the unpaid orders of a shard whose time is up."""

    def __init__(self, alias: str, *, now: datetime) -> None:
        self.counts: Counter[str] = Counter()
        self._alias = alias
        self._now = now
        self._provider_is_silent = False
        self._until_s = time.monotonic() + TURN_S

    def run(self) -> int:
        """End what is overdue, all of it or as much as a turn has time for; returns how many ended.

        `counts` tells the outcomes. One sweep at a time on a shard: after a flood its orders expire as a flood, and
        sweeps that met over them would end them one by one, and leave no process of the worker to anything else.
        """
        with suppress(NamedLockTimeout), named_lock(self._alias, "expire-orders", timeout_s=0):
            for month in existing_months(self._alias):
                if month.starts_at <= self._now and (self._alias, month) not in _drained:
                    self._sweep(month)
        return self.counts["expired"]

    def _sweep(self, month: Month) -> None:
        for orders in self._overdue(month):
            self._end(orders)
            if time.monotonic() >= self._until_s:
                return  # the next turn begins with the oldest again
        self._note_drained(month)

    def _overdue(self, month: Month) -> Iterator[Sequence[Order]]:
        """Yield batches by age; one that is put off does not hold up those behind it."""
        overdue = (
            Order.objects.in_month(self._alias, month)
            .filter(status=OrderStatus.PENDING_PAYMENT, expires_at__lte=self._now)
            .exclude(payment_status=PaymentStatus.AUTHORIZED)  # its money is held, until the hold lapses
            .order_by("expires_at", "id")
            .defer(*_UNNEEDED)
        )
        rows = overdue
        while True:
            batch = list(rows[:BATCH_SIZE])
            if batch:
                yield batch
            if len(batch) < BATCH_SIZE:
                return
            last = batch[-1]
            rows = overdue.filter(expires_at__gte=last.expires_at).exclude(expires_at=last.expires_at, id__lte=last.id)

    def _end(self, orders: Sequence[Order]) -> None:
        undecided = orders_with_open_attempts(self._alias, [order.id for order in orders])
        self._expire([order for order in orders if order.id not in undecided], had_attempts=False)
        # The others are ended one by one, after their provider was asked whether it has the money.
        for order in orders:
            if order.id in undecided and self._provider_has_spoken(order):
                current = find_order(order.id)
                if current is not None and (current.status, current.payment_status) == _WAITING:
                    self._expire([current], had_attempts=True)
                else:
                    self.counts["paid"] += 1

    def _provider_has_spoken(self, order: Order) -> bool:
        """Ask about the order's open attempts and record the answers; False if the order has to wait for a provider.

        It waits for a bounded time: money that comes after the end is given back.
        """
        if not self._provider_is_silent:
            self._provider_is_silent = not self._asked_all(order)
        if not self._provider_is_silent:
            return True
        grace = timedelta(seconds=settings.ORDER_EXPIRY_PROVIDER_GRACE_S)
        if order.expires_at is not None and self._now - order.expires_at >= grace:
            return True
        self.counts["waiting_for_provider"] += 1
        return False

    def _asked_all(self, order: Order) -> bool:
        for attempt in attempts_of(order.id):
            if attempt.status not in OPEN_ATTEMPTS:
                continue
            try:
                outcome = ask_provider(attempt)
            except ProviderRefused:
                continue  # it knows nothing of this attempt, so nobody has paid by it
            except (ProviderTimeout, ProviderUnavailable):
                return False
            record_payment_outcome(order_id=order.id, n=attempt.n, outcome=outcome, now=self._now)
        return True

    def _expire(self, orders: Sequence[Order], *, had_attempts: bool) -> None:
        """End the orders in one transaction, or one by one where one of them has changed meanwhile."""
        if not orders:
            return
        try:
            with shard_atomic(self._alias, {slot_of(order.id) for order in orders}):
                advance_all(
                    self._alias,
                    orders,
                    changes={"closed_as": Closure.EXPIRED},
                    kind=EXPIRED,
                    actor="system",
                    detail="not paid in time",
                    now=self._now,
                )
                for order in orders:
                    place = place_of_order(order.id)
                    if had_attempts:
                        cancel_open_attempts(place, order_id=order.id, now=self._now)
                    owe_stock_change(place, order.id, now=self._now)
        except OrderChanged:
            if len(orders) == 1:
                self.counts["changed"] += 1
                return
            for order in orders:
                self._expire([order], had_attempts=had_attempts)
        else:
            self.counts["expired"] += len(orders)

    def _note_drained(self, month: Month) -> None:
        ended = month.ends_at + timedelta(seconds=settings.ORDER_WRITE_DEADLINE_S * 2) < self._now
        unpaid = Order.objects.in_month(self._alias, month).filter(status=OrderStatus.PENDING_PAYMENT)
        if ended and not unpaid.exists():
            _drained[self._alias, month] = True


def expire_orders(*, now: datetime) -> SweepReport:
    """End the unpaid orders whose `expires_at` has come, on every shard; returns counts by outcome.

    Concurrency: compare-and-set on the version that was read before the payment rows, so a payment or a new attempt
    that came meanwhile wins. Safe to run in several processes at once. A shard that is down waits for a later pass.
    """
    counts: Counter[str] = Counter()

    def sweep(alias: str) -> int:
        pass_over = ExpirySweep(alias, now=now)
        try:
            return pass_over.run()
        finally:
            counts.update(pass_over.counts)

    shard_round("expiry of unpaid orders", sweep)
    return SweepReport(dict(counts))
