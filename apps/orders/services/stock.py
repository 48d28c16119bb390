"""Brings the reservation of an order in line with the order's state.

State-based: it reads where the order stands now and asks inventory for the move that belongs there. Inventory's moves
are compare-and-set and only ever go forward, so any number of runs, at once or late, end the same.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from django.db import DatabaseError

from apps.inventory import services as inventory
from apps.inventory.errors import StockMismatch
from apps.orders.domain import FulfillmentStatus, OrderStatus, StockTarget, stock_target
from apps.orders.models import OrderKind
from apps.orders.selectors import OrderState, order_items, states_of
from apps.orders.services.flash_stock import flash_claims_of, sync_flash_units
from apps.orders.types import SweepReport
from apps.promotions.errors import TransferMismatch
from infra.errors import DomainError
from infra.followups.rounds import shard_round
from infra.followups.services import done_all, due, postpone, schedule
from infra.followups.types import FollowUp
from infra.mysql.errors import is_connection_lost
from infra.sharding.places import Place

_log = logging.getLogger(__name__)

STOCK_FOLLOW_UP: Final = "stock"
RETURN_FOLLOW_UP: Final = "stock_return"
BATCH_SIZE: Final = 200


def owe_stock_change(place: Place, order_id: int, *, now: datetime) -> None:
    """Owe the stock a move, in the transaction that changes the order's state."""
    schedule(place, kind=STOCK_FOLLOW_UP, order_id=order_id, due_at=now, now=now)


def owe_stock_return(place: Place, order_id: int, *, now: datetime) -> None:
    """Owe the stock single units, in the transaction that raises the lines' `returned_quantity`.

    Its own kind, so that the moves of all the other orders need not look for such units.
    """
    schedule(place, kind=RETURN_FOLLOW_UP, order_id=order_id, due_at=now, now=now)


def sync_stock_of(order_ids: Collection[int], *, now: datetime) -> SweepReport:
    """Bring the reservations of the orders in line; returns counts by target. Unknown orders are left alone."""
    targets: dict[StockTarget, list[int]] = defaultdict(list)
    flash_targets: dict[StockTarget, list[int]] = defaultdict(list)
    states = _real(states_of(order_ids))
    flash_orders = flash_claims_of(states)
    for order_id, state in states.items():
        target = stock_target(OrderStatus(state.status), FulfillmentStatus(state.fulfillment_status))
        (flash_targets if order_id in flash_orders else targets)[target].append(order_id)
    if settled := targets[StockTarget.SETTLE]:
        inventory.settle(settled, now=now)
    # What was settled is restocked, what is still held is released; each skips the orders that it is not for.
    if given_back := targets[StockTarget.RELEASE] + targets[StockTarget.RETURN]:
        inventory.release(given_back, now=now)
    if returned := targets[StockTarget.RETURN]:
        inventory.restock(returned, now=now)
    sync_flash_units(flash_targets, now=now)
    counts: Counter[str] = Counter({target: len(members) for target, members in targets.items() if members})
    counts.update({target: len(members) for target, members in flash_targets.items() if members})
    return SweepReport(dict(counts))


def return_stock_of(order_ids: Collection[int], *, now: datetime) -> SweepReport:
    """Bring the reservations in line, and then back into stock what the lines say has returned of paid orders."""
    report = sync_stock_of(order_ids, now=now)
    returned = {
        order_id: {line.sku: line.returned_quantity for line in order_items(order_id) if line.returned_quantity}
        for order_id in _real(states_of(order_ids))
    }
    inventory.restock_units(returned, now=now)
    return report


def sync_due_stock(*, now: datetime, limit: int = BATCH_SIZE) -> SweepReport:
    """Do the moves that are owed on every shard; a shard or stock that is down waits its turn.

    Goes on until fewer than `limit` are due. A follow-up is settled only if nothing new has happened to its order
    since it was read.
    """
    counts: Counter[str] = Counter()

    def drain(alias: str) -> int:
        drained_count = 0
        for kind, move in ((STOCK_FOLLOW_UP, sync_stock_of), (RETURN_FOLLOW_UP, return_stock_of)):
            while owed := due(alias, kind=kind, now=now, limit=limit):
                drained_count += len(owed)
                counts.update(_drain(owed, move, now=now))
                if len(owed) < limit:
                    break
        return drained_count

    shard_round("stock follow-ups", drain)
    return SweepReport(dict(counts))


def _drain(owed: Sequence[FollowUp], move: Callable[..., SweepReport], *, now: datetime) -> Mapping[str, int]:
    """Do what one batch of follow-ups owes; where the batch fails, each by itself, so that one cannot hold up all."""
    try:
        counts = move([item.order_id for item in owed], now=now).counts
    except (DatabaseError, DomainError, StockMismatch, TransferMismatch) as error:
        _log.warning("stock moves of %d orders failed: %s", len(owed), error)
        if len(owed) == 1:
            postpone(owed[0], now=now, error=type(error).__name__)
            return {"postponed": 1}
        if is_connection_lost(error):
            for item in owed:
                postpone(item, now=now, error=type(error).__name__)
            return {"postponed": len(owed)}
        singly: Counter[str] = Counter()
        for item in owed:
            singly.update(_drain([item], move, now=now))
        return singly
    done_all(owed)
    return counts


def statuses_of(order_ids: Iterable[int]) -> dict[int, OrderStatus]:
    """Return the statuses of those of the orders that are there; tombstones are not."""
    return {order_id: OrderStatus(state.status) for order_id, state in _real(states_of(order_ids)).items()}


def _real(states: Mapping[int, OrderState]) -> dict[int, OrderState]:
    return {order_id: state for order_id, state in states.items() if state.kind == OrderKind.REAL}
