"""Orders that cost nothing: no provider has a part in them, so they are paid, and given back, by themselves.

The transaction that places such an order, or cancels it, owes a follow-up; the scan moves the order on from wherever it
stands.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from django.db import DatabaseError

from apps.orders.domain import OrderStatus, PaymentStatus
from apps.orders.events import PAID, REFUNDED
from apps.orders.locks import lock_order
from apps.orders.services.drafting import OrderDraft
from apps.orders.services.stock import owe_stock_change
from apps.orders.services.transitions import advance
from apps.orders.types import SweepReport
from infra.errors import DomainError
from infra.followups.rounds import shard_round
from infra.followups.services import done, due, postpone, schedule
from infra.sharding.places import Place, place_of_order

_log = logging.getLogger(__name__)

FREE_FOLLOW_UP: Final = "free"
BATCH_SIZE: Final = 200


def owe_free_orders(drafts: Sequence[OrderDraft], *, now: datetime) -> None:
    """Owe those of the new orders that cost nothing their payment, inside the transaction that writes them.

    Prices are above zero, so only what an order's wishes take off can make it free.
    """
    for draft in drafts:
        if draft.wishes is not None and not draft.order.total:
            owe_settling(place_of_order(draft.order.id), draft.order.id, now=now)


def owe_settling(place: Place, order_id: int, *, now: datetime) -> None:
    """Owe an order that costs nothing its next step, inside the transaction that makes it due."""
    schedule(place, kind=FREE_FOLLOW_UP, order_id=order_id, due_at=now, now=now)


def settle_free_orders(*, now: datetime, limit: int = BATCH_SIZE) -> SweepReport:
    """Move on the orders without a price on every shard; returns counts by what they became."""
    counts: Counter[str] = Counter()

    def drain(alias: str) -> int:
        drained_count = 0
        while owed := due(alias, kind=FREE_FOLLOW_UP, now=now, limit=limit):
            for item in owed:
                try:
                    counts[settle_free_order(item.order_id, now=now)] += 1
                except (DatabaseError, DomainError) as error:
                    _log.warning("order %d, which costs nothing, waits: %s", item.order_id, error)
                    postpone(item, now=now, error=type(error).__name__)
                else:
                    done(item)
            drained_count += len(owed)
            if len(owed) < limit:
                break
        return drained_count

    shard_round("orders that cost nothing", drain)
    return SweepReport(dict(counts))


def settle_free_order(order_id: int, *, now: datetime) -> str:
    """Pay an order that costs nothing, or give it back; returns the status that it has then.

    Idempotent. Concurrency: decides under the lock of the order's row.
    """
    place = place_of_order(order_id)
    with place.atomic():
        order = lock_order(place, order_id)
        if order is None or order.total:
            return "left alone"
        if order.status == OrderStatus.PENDING_PAYMENT:
            changes: dict[str, object] = {"payment_status": PaymentStatus.PAID, "paid_at": now}
            kind = PAID
        elif order.status == OrderStatus.REFUNDING:
            changes, kind = {"payment_status": PaymentStatus.REFUNDED, "refunding": False}, REFUNDED
        else:
            return str(order.status)
        order = advance(place, order, changes=changes, kind=kind, actor="system", detail="it costs nothing", now=now)
        owe_stock_change(place, order_id, now=now)
        return str(order.status)
