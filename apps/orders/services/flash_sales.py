"""Runs flash sales over the databases: opening, ending, cancelling, and the sweep that brings them along.

The sale's row is in `promotions`, its units are on the shards and in stock. Each step may be repeated, and the sweep
repeats whatever a killed command or a database that was away has left undone.
"""

import logging
import time
from collections import Counter
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import DatabaseError

from apps.inventory.errors import StockMismatch, UnknownSku
from apps.inventory.places import inventory_aliases
from apps.orders.domain import OrderStatus, round_money
from apps.orders.errors import OrderNotCancellable
from apps.orders.services.cancellation import cancel_order_as_staff
from apps.orders.services.flash_queue import forget_queues, is_waiting
from apps.orders.services.flash_transfers import allot_from_stock, complete_all, open_transfers_of
from apps.orders.services.stock import statuses_of
from apps.orders.types import SweepReport
from apps.promotions import services as promotions
from apps.promotions.domain import LIVE_STATES, SaleState
from apps.promotions.errors import SaleChanged, SaleRefused, TransferMismatch
from apps.promotions.selectors import get_sale, live_sales, standing_claims
from apps.promotions.types import ItemKey, NewSale, Sale
from infra.errors import DomainError
from infra.sharding.places import shard_aliases

_log = logging.getLogger(__name__)

SWEEP_ACTOR: Final = "system"
_PAGE: Final = 200
_CANCELLABLE: Final = frozenset({OrderStatus.PENDING_PAYMENT, OrderStatus.PAID})
# Cancelling the orders of a sale takes turns of this length: shorter than a task may run.
_CANCELLING_S: Final = 20.0


def open_sale(new: NewSale, *, by: int, now: datetime) -> Sale:
    """Make a sale and allot its units; it sells from its start on.

    `by` is the staff account that makes it, or CONSOLE. A sale that needs a second person's approval stays a draft, and
    nothing is allotted.
    Raises SaleRefused, with nothing left allotted, when the sale makes no sense or normal stock has too few units.
    """
    for item in new.items:
        if round_money(item.price, settings.CURRENCY) != item.price:
            raise SaleRefused(f"{item.sku}: {item.price} has more decimals than {settings.CURRENCY}.")
    sale = promotions.create_sale(new, by=by, now=now)
    if sale.awaits_approval:
        return sale
    try:
        return publish_sale(sale.id, now=now)
    except (SaleRefused, UnknownSku):
        promotions.move_sale(get_sale(sale.id), SaleState.CANCELLED, now=now)
        wind_up(sale.id, now=now)
        raise


def publish_sale(sale_id: int, *, now: datetime) -> Sale:
    """Allot a draft's units and let it sell from its start on.

    Raises SaleRefused when it awaits approval, is no draft, or normal stock has too few units; SaleChanged.
    """
    warm_up(sale_id, now=now)
    sale = promotions.move_sale(get_sale(sale_id), SaleState.SCHEDULED, now=now)
    return begin_if_due(sale, now=now)


def approve_sale(sale_id: int, *, version: int, by: int, now: datetime) -> Sale:
    """Approve a sale as the second person. A draft is published; one that was paused for it can be resumed.

    Raises SaleNotFound, SaleRefused, SaleChanged; an approved draft that stock has too few units for stays a draft.
    """
    sale = promotions.approve_sale(get_sale(sale_id), version=version, by=by, now=now)
    if sale.state == SaleState.DRAFT:
        return publish_sale(sale_id, now=now)
    warm_up(sale_id, now=now)
    return sale


def warm_up(sale_id: int, *, now: datetime) -> dict[str, int]:
    """Allot what is missing of the sale's quotas out of normal stock; returns the quotas by SKU.

    Idempotent. Raises SaleNotFound; SaleRefused when the sale is over, awaits approval, or normal stock has too few
    units.
    """
    sale = get_sale(sale_id)
    if sale.state not in (SaleState.DRAFT, *LIVE_STATES) or now >= sale.ends_at:
        raise SaleRefused("The sale is over.")
    promotions.check_approved(sale)
    for item in sale.items.values():
        allot_from_stock((sale.id, item.sku), item.quota, now=now)
    return {item.sku: item.quota for item in sale.items.values()}


def raise_quota(sale_id: int, sku: str, quota: int, *, by: int, now: datetime) -> Sale:
    """Raise an item's quota while the sale is live, and allot the difference, unless it has to be approved first.

    Raises SaleRefused, SaleChanged.
    """
    sale = get_sale(sale_id)
    before = sale.items[sku].quota if sku in sale.items else 0
    changed = promotions.change_sale(sale, quotas=[(sku, quota)], by=by, now=now)
    if quota > before and changed.state in LIVE_STATES and not changed.awaits_approval:
        allot_from_stock((sale_id, sku), quota, now=now)
    return changed


def extend_sale(sale_id: int, *, ends_at: datetime, by: int, now: datetime) -> Sale:
    """Move the end of a sale; a later one may have to be approved. Raises SaleNotFound, SaleRefused, SaleChanged."""
    return promotions.change_sale(get_sale(sale_id), ends_at=ends_at, by=by, now=now)


def pause_sale(sale_id: int, *, now: datetime) -> Sale:
    """Stop selling until the sale is resumed; buyers hear so within a second. Raises SaleRefused, SaleChanged."""
    return promotions.move_sale(get_sale(sale_id), SaleState.PAUSED, now=now)


def resume_sale(sale_id: int, *, now: datetime) -> Sale:
    """Let a paused sale go on. Raises SaleRefused, SaleChanged."""
    sale = get_sale(sale_id)
    state = SaleState.RUNNING if now >= sale.starts_at else SaleState.SCHEDULED
    return promotions.move_sale(sale, state, now=now)


def begin_if_due(sale: Sale, *, now: datetime) -> Sale:
    """Note that a scheduled sale runs once its start has come. Selling goes by the clock, not by this."""
    if sale.state == SaleState.SCHEDULED and now >= sale.starts_at:
        return promotions.move_sale(sale, SaleState.RUNNING, now=now)
    return sale


def end_sale(sale_id: int, *, now: datetime) -> bool:
    """End a live sale now; True when it has ended, False while units of it are still on their way.

    From the change of its end on nobody is let in, and from the closing of an allotment on nothing is sold there. The
    sale is not ended while a transfer of it is open or a shard was not reached: the sweep brings it to its end.
    Raises SaleNotFound, SaleRefused, SaleChanged.
    """
    sale = get_sale(sale_id)
    if sale.state not in LIVE_STATES:
        raise SaleRefused(f"A sale that is {sale.state} does not end.")
    if sale.ends_at > now:
        promotions.shorten_sale(sale, now=now)
    return wind_up(sale_id, now=now)


def cancel_sale(sale_id: int, *, now: datetime) -> bool:
    """Call a sale off: nothing more is sold, and every order of it is cancelled, the paid ones with a refund.

    True when all is done, False when the sweep has more to do. Raises SaleNotFound, SaleRefused, SaleChanged.
    """
    promotions.move_sale(get_sale(sale_id), SaleState.CANCELLED, now=now)
    return wind_up(sale_id, now=now)


def wind_up(sale_id: int, *, now: datetime) -> bool:
    """Close a sale whose time is over, or which was cancelled: allotments, what is unsold, what is to be refunded.

    A rehearsal's orders are all taken back, as those of a cancelled sale are.
    True once nothing is left to do, and the sale is then marked as closed. Idempotent, for any number of processes.
    """
    sale = get_sale(sale_id)
    if sale.closed_at is not None:
        return True
    if sale.state != SaleState.CANCELLED and now < sale.ends_at:
        return False
    items: list[ItemKey] = [(sale.id, sku) for sku in sale.items]
    try:
        for alias in shard_aliases():
            complete_all(promotions.close_allotments(alias, items, now=now), now=now)
        if (sale.state == SaleState.CANCELLED or sale.rehearsal) and not _cancel_orders(sale, now=now):
            return False
        complete_all(list(open_transfers_of(items)), now=now)
        if any(True for _ in open_transfers_of(items)) or (now < _tickets_end_at(sale) and is_waiting(sale)):
            return False
        promotions.mark_closed(sale, now=now)
        forget_queues(sale)
    except (DatabaseError, DomainError, SaleChanged, StockMismatch, TransferMismatch):
        _log.warning("sale %d is not closed yet", sale_id, exc_info=True)
        return False
    return True


def sweep_sales(*, now: datetime) -> SweepReport:
    """Begin what is due, close what is over; returns counts by what was done. Safe in several processes at once."""
    counts: Counter[str] = Counter()
    for sale in live_sales():
        try:
            if sale.state != SaleState.CANCELLED and sale.ends_at <= now < _queue_ends_at(sale) and is_waiting(sale):
                counts["draining"] += 1
            elif sale.state == SaleState.DRAFT:
                if now >= sale.ends_at:  # never approved, or its making was killed
                    cancel_sale(sale.id, now=now)
                    counts["lapsed"] += 1
            elif sale.state == SaleState.CANCELLED or now >= sale.ends_at:
                counts["closed" if wind_up(sale.id, now=now) else "closing"] += 1
            elif sale.state == SaleState.SCHEDULED and now >= sale.starts_at:
                begin_if_due(sale, now=now)
                counts["begun"] += 1
        except SaleChanged:
            counts["changed"] += 1
    return SweepReport(dict(counts))


def purge_sales(*, now: datetime) -> SweepReport:
    """Clear what the databases keep of sales that were closed long ago; returns counts. Resumable, and throttled."""
    counts: Counter[str] = Counter()
    stop_at = time.monotonic() + settings.PURGE_DEADLINE_S
    for sale_id in promotions.begin_purge(now=now):
        if time.monotonic() >= stop_at:
            break
        try:
            done = all(promotions.purge_on_shard(alias, sale_id) for alias in shard_aliases()) and all(
                promotions.purge_in_stock(alias, sale_id) for alias in inventory_aliases()
            )
        except DatabaseError:
            _log.warning("sale %d is not cleared yet", sale_id, exc_info=True)
            done = False
        if done:
            promotions.finish_purge(sale_id, now=now)
        counts["purged" if done else "left"] += 1
    return SweepReport(dict(counts))


def _queue_ends_at(sale: Sale) -> datetime:
    """Return until when a sale whose time is over still serves those who were queued in time."""
    return sale.ends_at + timedelta(seconds=settings.FLASH_QUEUE_GRACE_S)


def _tickets_end_at(sale: Sale) -> datetime:
    return sale.ends_at + timedelta(seconds=settings.FLASH_TICKET_END_S)


def _cancel_orders(sale: Sale, *, now: datetime) -> bool:
    """Cancel the orders that have units of the sale; False when there is more to do than fits into one turn.

    Resumable: what was cancelled is told by its status and passed over.
    """
    stop_at = time.monotonic() + _CANCELLING_S
    all_done = True
    for alias in shard_aliases():
        after = (-1, 0)
        while page := standing_claims(alias, sale.id, after=after, limit=_PAGE):
            after = page[-1][0], page[-1][1].order_id
            statuses = statuses_of([claim.order_id for _, claim in page])
            for order_id in sorted(each for each, status in statuses.items() if status in _CANCELLABLE):
                if time.monotonic() >= stop_at:
                    return False
                all_done &= _cancel_order(order_id, now=now)
    return all_done


def _cancel_order(order_id: int, *, now: datetime) -> bool:
    """Cancel one order; False if it has to be tried again."""
    try:
        cancel_order_as_staff(order_id=order_id, reason="The sale was called off.", actor=SWEEP_ACTOR, now=now)
    except OrderNotCancellable:
        return True  # it has just expired, or is on its way to the buyer: a case for the staff
    except (DatabaseError, DomainError):
        _log.warning("order %d of a cancelled sale is not cancelled", order_id, exc_info=True)
        return False
    return True
