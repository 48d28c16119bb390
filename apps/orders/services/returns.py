"""Returns: asked for by the shopper, decided by the staff, counted when the goods come; stock and money follow.

Each step is one transaction on the order's shard. The one that counts the goods writes the refund of what they were
worth and owes their way back into stock, which is done by a follow-up under the return's own reference: once, whatever
dies.
"""

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from django.db import DatabaseError
from django.db.models import QuerySet

from apps.inventory import services as inventory
from apps.orders.domain import OrderStatus, merge_lines, refund_amount
from apps.orders.errors import NotReturnable, ReturnNotFound, ReturnRefused
from apps.orders.events import RETURN_APPROVED, RETURN_RECEIVED, RETURN_REJECTED, RETURN_REQUESTED
from apps.orders.fulfillment import (
    OPEN_RETURNS,
    LineShare,
    ReturnStatus,
    TooManyUnits,
    allocate,
    return_id,
)
from apps.orders.models import Order, Return, ReturnLine
from apps.orders.return_selectors import get_return, returnable, returns_of
from apps.orders.selectors import order_items
from apps.orders.services.changing import change_order, own_order_locked
from apps.orders.services.shipping import advance_goods
from apps.orders.services.transitions import advance
from apps.orders.shipment_selectors import Goods, goods_of
from apps.orders.types import ReturnView, SweepReport
from apps.payments.selectors import accepted_attempt, refunds_of
from apps.payments.services import create_refund
from apps.payments.types import AttemptView, RefundItem, RefundStatus
from infra.errors import DomainError, FieldError, LimitReached, ValidationFailed
from infra.followups.rounds import shard_round
from infra.followups.services import done, due, postpone, schedule
from infra.followups.types import FollowUp
from infra.sharding.months import Month
from infra.sharding.places import Place

_log = logging.getLogger(__name__)

RESTOCK: Final = "return_stock"
"""Kind of the follow-up that puts the units of a return back into stock (`n` is the return's)."""

MAX_RETURNS: Final = 50
BATCH_SIZE: Final = 200
_SENT: Final = frozenset({OrderStatus.FULFILLING, OrderStatus.SHIPPED, OrderStatus.COMPLETED})


def request_return(
    *, user_id: int, order_id: int, items: Sequence[tuple[str, int]], reason: str, now: datetime
) -> ReturnView:
    """Ask to send back units (SKU and quantity, as the client wrote them) of what was shipped lately.

    Raises OrderNotFound, NotReturnable (`errors` names each item that asks for more than there is), LimitReached.
    Concurrency: decides under the lock of the order's row, so that requests at once never ask for a unit twice.
    """
    with own_order_locked(user_id=user_id, order_id=order_id) as (place, order):
        if order.status not in _SENT:
            raise NotReturnable(f"Nothing of an order that is {order.status} can be sent back.")
        shares = _asked_shares(items, returnable(order, now=now))
        n = max((each.n for each in returns_of(order_id)), default=0) + 1
        if n > MAX_RETURNS:
            raise LimitReached("There were too many returns of this order.")
        _advance(place, order, RETURN_REQUESTED, n=n, status=ReturnStatus.REQUESTED, actor="shopper", now=now)
        month = Month.of_id(order_id)
        Return.objects.model_for(month, alias=place.alias)(
            slot=place.slot, order_id=order_id, n=n, reason=reason, created_at=now, updated_at=now
        ).save(using=place.alias, force_insert=True)
        line = ReturnLine.objects.model_for(month, alias=place.alias)
        ReturnLine.objects.at(place, month).bulk_create(
            line(slot=place.slot, order_id=order_id, n=n, line=share.line, sku=share.sku, quantity=share.units)
            for share in shares
        )
        return existing_return(order_id, n)


def approve_return(
    *, order_id: int, n: int, note: str, actor: str, expected_version: int | None = None, now: datetime
) -> ReturnView:
    """Let a buyer send the goods back.

    Idempotent. Raises OrderNotFound, OrderMovedOn, ReturnNotFound, ReturnRefused.
    """
    return _decide(
        order_id,
        n,
        ReturnStatus.APPROVED,
        {ReturnStatus.REQUESTED},
        kind=RETURN_APPROVED,
        note=note,
        actor=actor,
        expected_version=expected_version,
        now=now,
    )


def reject_return(
    *, order_id: int, n: int, note: str, actor: str, expected_version: int | None = None, now: datetime
) -> ReturnView:
    """Refuse a return, or give up an approved one whose goods never came; its units can be asked for again.

    Idempotent. Raises OrderNotFound, OrderMovedOn, ReturnNotFound, ReturnRefused.
    """
    return _decide(
        order_id,
        n,
        ReturnStatus.REJECTED,
        OPEN_RETURNS,
        kind=RETURN_REJECTED,
        note=note,
        actor=actor,
        expected_version=expected_version,
        now=now,
    )


def receive_return(
    *,
    order_id: int,
    n: int,
    received: Mapping[str, int],
    restocked: Mapping[str, int],
    note: str,
    actor: str,
    expected_version: int | None = None,
    now: datetime,
) -> ReturnView:
    """Count the goods of an approved return (by SKU), say which are fit for the stock, and give their worth back.

    What was announced and did not come can be asked for again. Units that were refunded before are not refunded twice;
    the order is `refunding` where by this all of its money goes back. Raises OrderNotFound, OrderMovedOn,
    ReturnNotFound, ReturnRefused (not approved, received before, other or more units than announced, none at all, more
    put into stock than came).
    """

    def change(place: Place, order: Order) -> None:
        wanted = existing_return(order_id, n)
        if wanted.status != ReturnStatus.APPROVED:
            raise ReturnRefused(f"The return is {wanted.status}.")
        came, fit = _counted(wanted, received, restocked)
        before = goods_of(order)
        refund = _worth(order, before, came)
        advance_goods(
            place,
            order,
            _after(before, came, refund),
            told=[],
            kind=RETURN_RECEIVED,
            actor=actor,
            detail=f"{wanted.return_id}: " + ", ".join(f"{share.units} x {share.sku}" for share in came),
            now=now,
            changes={"refunding": True} if refund is not None and refund.is_all else None,
            payload={"return_id": wanted.return_id, "return": str(ReturnStatus.RECEIVED)},
        )
        refund_n = None if refund is None else refund.create(place, order, reason=wanted.return_id, now=now)
        _update(place, order_id, n, status=ReturnStatus.RECEIVED, note=note, refund_n=refund_n, updated_at=now)
        fit_units = Counter({share.line: share.units for share in fit})
        for share in came:
            _lines_at(place, order_id, n).filter(line=share.line).update(
                received_quantity=share.units, restocked_quantity=fit_units[share.line]
            )
        if fit:
            schedule(place, kind=RESTOCK, order_id=order_id, n=n, due_at=now, now=now)

    change_order(order_id, change, expected_version=expected_version)
    return existing_return(order_id, n)


def restock_due_returns(*, now: datetime, limit: int = BATCH_SIZE) -> SweepReport:
    """Put back into stock what returns have brought, on every shard; returns counts.

    Once for each return: the stock's database knows its reference. A database that is down waits its turn.
    """
    counts: Counter[str] = Counter()

    def sweep(alias: str) -> int:
        owed = due(alias, kind=RESTOCK, now=now, limit=limit)
        for follow_up in owed:
            try:
                _restock(follow_up, now=now)
                done(follow_up)
                counts["restocked"] += 1
            except (DatabaseError, DomainError) as error:
                counts["postponed"] += 1
                _log.warning("return %d of order %d is not in stock yet: %s", follow_up.n, follow_up.order_id, error)
                postpone(follow_up, now=now, error=type(error).__name__)
        return len(owed)

    shard_round("returns into stock", sweep)
    return SweepReport(dict(counts))


def existing_return(order_id: int, n: int) -> ReturnView:
    """Return a return; raises ReturnNotFound."""
    found = get_return(order_id, n)
    if found is None:
        raise ReturnNotFound("There is no such return.")
    return found


# -- parts ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Worth:
    """What the units of a return are worth; `is_all` if with it all of the order's money goes back."""

    attempt: AttemptView
    amounts: Mapping[LineShare, Decimal]
    is_all: bool

    def create(self, place: Place, order: Order, *, reason: str, now: datetime) -> int:
        """Write the refund; returns its number."""
        return create_refund(
            place,
            order_id=order.id,
            attempt_n=self.attempt.n,
            amount=sum(self.amounts.values(), Decimal(0)),
            reason=reason,
            items=[RefundItem(share.sku, share.units, amount) for share, amount in self.amounts.items()],
            now=now,
        ).n


def _worth(order: Order, goods: Goods, came: Sequence[LineShare]) -> _Worth | None:
    """Return what is given back for units that came, or None for nothing: not paid here, or given back already."""
    attempt = accepted_attempt(order.id)
    if attempt is None or order.status not in _SENT:
        return None
    lines = {line.line: line for line in order_items(order.id)}
    units = {line.line: line for line in goods.units}
    amounts: dict[LineShare, Decimal] = {}
    for share in came:
        line, known = lines[share.line], units[share.line]
        count = min(share.units, max(0, known.bought - known.withdrawn))
        if count:
            amounts[LineShare(share.line, share.sku, count)] = refund_amount(
                paid=Decimal(line.line_total) - Decimal(line.discount) - Decimal(line.points_value),
                quantity=line.quantity,
                already=known.withdrawn,
                returning=count,
                currency=order.currency,
            )
    amount = sum(amounts.values(), Decimal(0))
    if amount <= 0:
        return None
    decided = sum(
        (
            refund.amount
            for refund in refunds_of(order.id)
            if refund.status not in (RefundStatus.REQUESTED, RefundStatus.REJECTED) and not refund.unexpected
        ),
        Decimal(0),
    )
    return _Worth(attempt, amounts, is_all=decided + amount >= attempt.captured_amount)


def _after(before: Goods, came: Sequence[LineShare], worth: _Worth | None) -> Goods:
    after = before.with_units(came, returned=1)
    return after if worth is None else after.with_units(worth.amounts, withdrawn=1)


def _asked_shares(items: Sequence[tuple[str, int]], available: Sequence[LineShare]) -> list[LineShare]:
    """Return the units by line that are asked for; raises ValidationFailed, NotReturnable, with all items at once."""
    merged = merge_lines(items)
    known = {share.sku for share in available}
    if unknown := [line for line in merged if line.sku not in known]:
        raise ValidationFailed(
            "Some SKUs are not in this order.",
            errors=[
                FieldError(f"/items/{line.first_index}/sku", "unknown_sku", "This SKU is not in the order.")
                for line in unknown
            ],
        )
    try:
        return allocate({line.sku: line.quantity for line in merged}, available)
    except TooManyUnits as error:
        raise NotReturnable(
            "More than was shipped lately and is neither back nor refunded nor asked to be.",
            errors=[
                FieldError(
                    f"/items/{line.first_index}/quantity",
                    "too_many",
                    f"{error.available[line.sku]} of these can still be sent back.",
                    {"sku": line.sku, "requested": line.quantity, "returnable": error.available[line.sku]},
                )
                for line in merged
                if line.sku in error.available
            ],
        ) from error


def _counted(
    wanted: ReturnView, received: Mapping[str, int], restocked: Mapping[str, int]
) -> tuple[list[LineShare], list[LineShare]]:
    """Return what came, and what of it is fit for the stock, by line; raises ReturnRefused."""
    announced = [LineShare(item.line, item.sku, item.quantity) for item in wanted.items]
    try:
        came = allocate(received, announced)
        fit = allocate(restocked, came)
    except TooManyUnits as error:
        told = ", ".join(f"{units} of {sku}" for sku, units in sorted(error.available.items()))
        raise ReturnRefused(f"No more than these can be counted: {told}.") from error
    if not came:
        raise ReturnRefused("Nothing came: reject the return instead.")
    return came, fit


def _decide(
    order_id: int,
    n: int,
    status: ReturnStatus,
    from_statuses: Collection[ReturnStatus],
    *,
    kind: str,
    note: str,
    actor: str,
    expected_version: int | None,
    now: datetime,
) -> ReturnView:
    def change(place: Place, order: Order) -> None:
        known = existing_return(order_id, n)
        if known.status == status:
            return
        if known.status not in from_statuses:
            raise ReturnRefused(f"The return is {known.status}.")
        _advance(place, order, kind, n=n, status=status, actor=actor, now=now)
        _update(place, order_id, n, status=status, note=note, updated_at=now)

    change_order(order_id, change, expected_version=expected_version)
    return existing_return(order_id, n)


def _advance(place: Place, order: Order, kind: str, *, n: int, status: ReturnStatus, actor: str, now: datetime) -> None:
    reference = return_id(order.id, n)
    payload = {"return_id": reference, "return": str(status)}
    advance(place, order, changes={}, kind=kind, actor=actor, detail=reference, now=now, payload=payload)


def _update(place: Place, order_id: int, n: int, **columns: object) -> None:
    Return.objects.at(place, Month.of_id(order_id)).filter(order_id=order_id, n=n).update(**columns)


def _lines_at(place: Place, order_id: int, n: int) -> QuerySet[ReturnLine]:
    rows: QuerySet[ReturnLine] = ReturnLine.objects.at(place, Month.of_id(order_id)).filter(order_id=order_id, n=n)
    return rows


def _restock(follow_up: FollowUp, *, now: datetime) -> None:
    found = get_return(follow_up.order_id, follow_up.n)
    if found is None:
        return
    units: Counter[str] = Counter()
    for item in found.items:
        units[item.sku] += item.restocked_quantity
    inventory.restock_by_reference(found.return_id, +units, order_id=found.order_id, now=now)
