"""The reaper of holds: settles what an attempt left between its two commits.

It knows both sides. A hold older than the write deadline is judged by the row under its order's id on the shard:

    a real order     the hold is confirmed; from now on only the order ends it
    a tombstone      (of this or an earlier try) the hold is released
    nothing          a tombstone is committed under that very id, then the hold is released

The tombstone makes the release safe against a writer that was only stopped: its INSERT fails on the primary key. Every
step may be repeated, so a reaper that is killed between two of them loses nothing.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import DatabaseError, IntegrityError, OperationalError

from apps.inventory import services as inventory
from apps.inventory.errors import StockMismatch
from apps.inventory.places import inventory_aliases
from apps.inventory.selectors import stale_holds
from apps.inventory.types import Hold
from apps.orders.domain import Closure, FulfillmentStatus, PaymentStatus
from apps.orders.models import Order, OrderKind
from apps.orders.selectors import states_of
from apps.orders.types import SweepReport
from infra.errors import DomainError
from infra.sharding.months import Month
from infra.sharding.places import Place, place_of_order

_log = logging.getLogger(__name__)

BATCH_SIZE: Final = 500
VOID_STATUS: Final = "void"


class HoldReaper:
    """One pass over the stale holds; its steps are methods so that a test can stop between any two of them."""

    def reap(self, *, now: datetime) -> SweepReport:
        """Settle every hold that is older than the write deadline; returns counts by outcome.

        A shard that cannot be reached keeps its holds until it can. Safe to run in several processes at once.
        """
        before = now - timedelta(seconds=settings.ORDER_WRITE_DEADLINE_S)
        counts: Counter[str] = Counter()
        for holds in _stale_orders(before):
            by_alias: dict[str, dict[int, Hold]] = defaultdict(dict)
            for hold in holds:
                by_alias[place_of_order(hold.order_id).alias][hold.order_id] = hold
            for alias, members in by_alias.items():
                try:
                    counts += self._settle(members, now=now)
                except (DatabaseError, DomainError):
                    _log.warning("holds of %d orders wait for %s", len(members), alias, exc_info=True)
                    counts["unreachable"] += len(members)
        return SweepReport(dict(counts))

    def _settle(self, members: dict[int, Hold], *, now: datetime) -> Counter[str]:
        """Settle holds of one shard."""
        kinds = _kinds(members)
        real = [order_id for order_id, kind in kinds.items() if kind == OrderKind.REAL]
        void = [order_id for order_id, kind in kinds.items() if kind == OrderKind.VOID]
        counts: Counter[str] = Counter()
        for order_id in members.keys() - kinds.keys():
            try:
                is_void = self.insert_tombstone(place_of_order(order_id), members[order_id], now=now)
                (void if is_void else real).append(order_id)
            except OperationalError as error:
                _log.warning("the hold of order %d waits: %s", order_id, error)
                counts["waiting"] += 1
        if real:
            self.confirm(real, now=now)
        mismatched: tuple[int, ...] = ()
        if void:
            try:
                self.release(void, now=now)
            except StockMismatch as error:  # damaged counters, which the audit tells of; the other holds are back
                _log.exception("holds that the stock does not cover")
                mismatched = error.order_ids
        return counts + Counter(confirmed=len(real), released=len(void) - len(mismatched), mismatched=len(mismatched))

    def insert_tombstone(self, place: Place, hold: Hold, *, now: datetime) -> bool:
        """Commit a void row under the order's id; False when a real order came first.

        Waits for a writer that is inside its transaction (its row lock), up to the lock wait timeout.
        """
        try:
            with place.atomic():
                void_order(place, hold, now=now).save(using=place.alias, force_insert=True)
        except IntegrityError:
            return _kinds([hold.order_id])[hold.order_id] == OrderKind.VOID
        return True

    def confirm(self, order_ids: Sequence[int], *, now: datetime) -> None:
        """Mark the holds of real orders, so that they are not looked at again."""
        inventory.confirm(order_ids, now=now)

    def release(self, order_ids: Sequence[int], *, now: datetime) -> None:
        """Give back the holds of tombstones."""
        inventory.release(order_ids, now=now)


def reap_stale_holds(*, now: datetime) -> SweepReport:
    """Settle what attempts left between their two commits; see `HoldReaper.reap`."""
    return HoldReaper().reap(now=now)


def void_order(place: Place, hold: Hold, *, now: datetime) -> Order:
    """Return the tombstone of an order id: a row that is no order and keeps the id from becoming one."""
    model = Order.objects.model_for(Month.of_id(hold.order_id), alias=place.alias)
    return model(
        slot=place.slot,
        id=hold.order_id,
        user_id=hold.user_id,
        kind=OrderKind.VOID,
        version=0,
        payment_status=PaymentStatus.UNPAID,
        fulfillment_status=FulfillmentStatus.NONE,
        closed_as=Closure.OPEN,
        status=VOID_STATUS,
        currency="",
        subtotal=0,
        total=0,
        request_digest=hold.request_digest,
        updated_at=now,
    )


def _kinds(order_ids: Iterable[int]) -> dict[int, OrderKind]:
    """Return what stands under each id: a real order or a tombstone; absent ids are absent."""
    return {order_id: state.kind for order_id, state in states_of(order_ids).items()}


def _stale_orders(before: datetime) -> Iterator[Sequence[Hold]]:
    """Yield batches of stale holds of every database of stock."""
    for alias in inventory_aliases():
        after = None
        while True:
            holds = stale_holds(alias, before=before, limit=BATCH_SIZE, after=after)
            if holds:
                yield holds
            if len(holds) < BATCH_SIZE:
                break
            after = holds[-1].created_at, holds[-1].order_id
