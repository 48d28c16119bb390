"""Refunds of parts of an order: asked for by the shopper, decided and mended by the staff.

Everything is decided under the lock of the order's row, so that requests at once are judged one after another. Money is
claimed on the attempt when it is asked for; units count as soon as a refund names them, unless it is rejected.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final, TypeVar

from django.conf import settings
from django.db.models import F

from apps.orders.domain import OrderStatus, PaymentStatus, merge_lines, refund_amount
from apps.orders.errors import OrderNotFound, OrderNotRefundable, RefundNotOpen
from apps.orders.events import (
    PAYMENT_UPDATED,
    REFUND_APPROVED,
    REFUND_REJECTED,
    REFUND_REQUESTED,
    REFUNDED,
    REFUNDING,
)
from apps.orders.locks import lock_order
from apps.orders.models import Order, OrderLine
from apps.orders.selectors import order_items
from apps.orders.services.points import settle_points
from apps.orders.services.stock import owe_stock_change, owe_stock_return
from apps.orders.services.transitions import advance
from apps.orders.shipment_selectors import fulfillment_change
from apps.orders.types import RefundRequest, RequestedRefund
from apps.payments import services as payments
from apps.payments.errors import PaymentNotFound, RefundTooLarge
from apps.payments.selectors import accepted_attempt, get_refund, refunds_of
from apps.payments.types import DECIDED_REFUNDS, VOID_REFUNDS, RefundItem, RefundStatus, RefundView
from infra.errors import FieldError, LimitReached, ValidationFailed
from infra.idempotency.services import complete, find_answer, remember
from infra.mysql.retry import with_deadlock_retry
from infra.sharding.months import Month
from infra.sharding.places import Place, place_of_order, place_of_user

# Before anything was sent the shopper decides alone; afterwards the staff do.
_AUTOMATIC: Final = frozenset({OrderStatus.PAID})
_REFUNDABLE: Final = _AUTOMATIC | {OrderStatus.FULFILLING, OrderStatus.SHIPPED, OrderStatus.COMPLETED}
T = TypeVar("T")


def request_refund(request: RefundRequest, *, render: Callable[[RefundView], bytes], now: datetime) -> RequestedRefund:
    """Ask for the money of some of an order's units; once for its key.

    Approved at once, and their stock given back, before anything was sent; otherwise `requested`, for the staff to
    decide. `render` makes the answer that is kept under the key. Raises OrderNotFound, ValidationFailed (a SKU that is
    not in the order), OrderNotRefundable, RefundTooLarge (`errors` names each item that asks for more than is left),
    LimitReached, IdempotencyKeyReused.
    Concurrency: any number of requests at once never claim more than was bought and captured.
    """
    place = place_of_user(request.key.user_id)
    if place.slot != place_of_order(request.order_id).slot:
        raise OrderNotFound("There is no such order.")

    def decide(order: Order | None) -> RequestedRefund:
        if order is None or order.user_id != request.key.user_id:
            raise OrderNotFound("There is no such order.")
        answer = find_answer(place, request.key)
        if answer is not None and answer.body is not None:
            return RequestedRefund(answer.body, replayed=True)
        refund = _add_refund(
            place, order, request.items, reason=request.reason, actor="shopper", approved=False, now=now
        )
        body = render(refund)
        remember(place, request.key, resource_id=refund.refund_id, now=now)
        complete(place, request.key, status=201, body=body)
        return RequestedRefund(body, replayed=False)

    return _under_lock(place, request.order_id, decide)


def refund_items_as_staff(
    *, order_id: int, items: Sequence[tuple[str, int]], reason: str, actor: str, now: datetime
) -> RefundView:
    """Give back the money of some of an order's units, approved at once whatever was sent; see `request_refund`."""
    place = place_of_order(order_id)
    return _under_lock(
        place,
        order_id,
        lambda order: _add_refund(place, _existing(order), items, reason=reason, actor=actor, approved=True, now=now),
    )


def approve_refund(
    *, order_id: int, n: int, reason: str, actor: str, returns_stock: bool = False, now: datetime
) -> RefundView:
    """Let a requested refund go ahead; `returns_stock`: its units never left, and go back into stock.

    Raises PaymentNotFound, RefundNotOpen (decided by somebody else meanwhile, or more units than were bought would be
    back in stock).
    """

    def approve(place: Place, order: Order, refund: RefundView) -> None:
        whole = _decided_amount(order) + refund.amount == _captured(order)
        _tell(place, order, refund, REFUNDING if whole else REFUND_APPROVED, whole=whole, actor=actor, now=now)
        if returns_stock:
            _return_units(place, order, refund.items, now=now)
        payments.approve_refund(place, refund, actor=actor, reason=reason, returns_stock=returns_stock, now=now)

    return _decide(order_id, n, RefundStatus.REQUESTED, approve)


def reject_refund(*, order_id: int, n: int, reason: str, actor: str, now: datetime) -> RefundView:
    """Refuse a requested refund; what it asked for can be asked for again. Raises PaymentNotFound, RefundNotOpen."""

    def reject(place: Place, order: Order, refund: RefundView) -> None:
        _tell(place, order, refund, REFUND_REJECTED, actor=actor, now=now)
        payments.reject_refund(place, refund, actor=actor, reason=reason, now=now)

    return _decide(order_id, n, RefundStatus.REQUESTED, reject)


def retry_refund(*, order_id: int, n: int, reason: str, actor: str, now: datetime) -> RefundView:
    """Have the provider try a failed refund once more. Raises PaymentNotFound, RefundNotOpen."""

    def retry(place: Place, order: Order, refund: RefundView) -> None:
        _tell(place, order, refund, PAYMENT_UPDATED, actor=actor, now=now)
        payments.retry_refund(place, refund, actor=actor, reason=reason, now=now)

    return _decide(order_id, n, RefundStatus.FAILED, retry)


def settle_refund_outside(*, order_id: int, n: int, reason: str, actor: str, now: datetime) -> RefundView:
    """Note that the staff gave the money of a failed refund back by another way, such as a transfer.

    Raises PaymentNotFound, RefundNotOpen.
    """

    def settle(place: Place, order: Order, refund: RefundView) -> None:
        changes = {} if refund.unexpected else order_after_refund(order, refund)
        settled = advance(
            place,
            order,
            changes=changes,
            kind=kind_after_refund(changes),
            actor=actor,
            detail=f"{refund.refund_id}: given back by another way",
            now=now,
            payload=refund_payload(refund, RefundStatus.SUCCEEDED),
        )
        payments.settle_refund_outside(place, refund, actor=actor, reason=reason, now=now)
        if not refund.unexpected:
            note_refunded_quantities(place, refund)
            settle_points(place, settled, refund_n=refund.n, now=now)

    return _decide(order_id, n, RefundStatus.FAILED, settle)


# -- what a refund's success means for its order; provider's words (payment.py) end here too ---------------------------


def order_after_refund(order: Order, refund: RefundView) -> dict[str, object]:
    """Return what the success of a refund of the order's own money changes in the order."""
    refunded_total = Decimal(order.refunded_total) + refund.amount
    if refunded_total >= Decimal(order.total):
        return {"refunded_total": refunded_total, "payment_status": PaymentStatus.REFUNDED, "refunding": False}
    return {
        "refunded_total": refunded_total,
        "payment_status": PaymentStatus.PARTIALLY_REFUNDED,
        **fulfillment_change(order),
    }


def kind_after_refund(changes: Mapping[str, object]) -> str:
    """Return the kind of the event that tells of these changes."""
    return REFUNDED if changes.get("payment_status") == PaymentStatus.REFUNDED else PAYMENT_UPDATED


def note_refunded_quantities(place: Place, refund: RefundView) -> None:
    """Raise the refunded quantity of the lines that a refund names; one that names none is for all of them."""
    lines = OrderLine.objects.at(place, Month.of_id(refund.order_id)).filter(order_id=refund.order_id)
    if not refund.items:
        lines.update(refunded_quantity=F("quantity"))
    for item in refund.items:
        lines.filter(sku=item.sku).update(refunded_quantity=F("refunded_quantity") + item.quantity)


def refund_payload(refund: RefundView, status: RefundStatus) -> dict[str, object]:
    """Return what a domain event tells of a refund."""
    return {
        "refund_id": refund.refund_id,
        "refund": str(status),
        "amount": str(refund.amount),
        "currency": refund.currency,
    }


def unrefunded_items(order_id: int) -> list[RefundItem]:
    """Return what no refund of the order has asked for yet: what a refund of all the rest is for."""
    asked = _asked_units(refunds_of(order_id))
    left = [(line, line.quantity - asked[line.sku]) for line in order_items(order_id)]
    return [RefundItem(line.sku, quantity) for line, quantity in left if quantity > 0]


# -- parts ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Asked:
    """One line of the order and how many of its units are asked for; `index` is where the client wrote it first."""

    line: OrderLine
    quantity: int
    index: int


def _add_refund(
    place: Place,
    order: Order,
    items: Sequence[tuple[str, int]],
    *,
    reason: str,
    actor: str,
    approved: bool,
    now: datetime,
) -> RefundView:
    """Write a refund of the order's units, and all that follows from it at once; the order's row is locked."""
    lines = order_items(order.id)
    asked = _asked_lines(lines, items)
    status = OrderStatus(order.status)
    if status not in _REFUNDABLE:
        raise OrderNotRefundable(f"An order that is {status} cannot be refunded in parts.")
    attempt = accepted_attempt(order.id)
    if attempt is None:
        raise OrderNotRefundable("Nothing was captured for this order here.")
    all_refunds = refunds_of(order.id)
    if len(all_refunds) >= settings.PAYMENT_MAX_REFUNDS:
        raise LimitReached("There were too many refunds of this order.")
    before = [refund for refund in all_refunds if not refund.unexpected and refund.status not in VOID_REFUNDS]
    units = _asked_units(before)
    _check_quantities(asked, units)
    unsent = status in _AUTOMATIC
    named = _priced(asked, before, units, currency=order.currency)
    amount = sum((item.amount for item in named), Decimal(0))
    units.update({each.line.sku: each.quantity for each in asked})
    if unsent and all(units[line.sku] == line.quantity for line in lines):
        # The last of it takes with it what belongs to no line: the shipping fee.
        amount = attempt.captured_amount - attempt.refund_claimed
    if amount <= 0:
        raise OrderNotRefundable("Nothing was paid for these items.")
    goes_ahead = approved or unsent
    whole = goes_ahead and _decided_amount(order) + amount == attempt.captured_amount
    refund_kind = REFUND_APPROVED if goes_ahead else REFUND_REQUESTED
    advance(
        place,
        order,
        changes={"refunding": True} if whole else {},
        kind=REFUNDING if whole else refund_kind,
        actor=actor,
        detail=", ".join(f"{item.quantity} x {item.sku}" for item in named)[:255],
        now=now,
        payload={"amount": str(amount), "currency": order.currency},
    )
    refund = payments.create_refund(
        place,
        order_id=order.id,
        attempt_n=attempt.n,
        amount=amount,
        reason=reason,
        items=named,
        approved=goes_ahead,
        returns_stock=unsent,
        decided_by=actor if goes_ahead else "",
        now=now,
    )
    if unsent:
        _return_units(place, order, named, now=now)
        if whole:
            owe_stock_change(place, order.id, now=now)
    return refund


def _asked_lines(lines: Sequence[OrderLine], items: Sequence[tuple[str, int]]) -> list[_Asked]:
    by_sku = {line.sku: line for line in lines}
    merged = merge_lines(items)
    unknown = [each for each in merged if each.sku not in by_sku]
    if unknown:
        raise ValidationFailed(
            "Some SKUs are not in this order.",
            errors=[
                FieldError(f"/items/{each.first_index}/sku", "unknown_sku", "This SKU is not in the order.")
                for each in unknown
            ],
        )
    return [_Asked(by_sku[each.sku], each.quantity, each.first_index) for each in merged]


def _check_quantities(asked: Sequence[_Asked], units: Mapping[str, int]) -> None:
    """Raise RefundTooLarge, with all items at once, where more is asked for than is left of a line."""
    errors = [
        FieldError(
            f"/items/{each.index}/quantity",
            "too_many",
            f"{left} of these can still be refunded.",
            {"sku": each.line.sku, "requested": each.quantity, "refundable": left},
        )
        for each in asked
        if each.quantity > (left := each.line.quantity - units.get(each.line.sku, 0))
    ]
    if errors:
        raise RefundTooLarge("More than was bought and not yet refunded or requested.", errors=errors)


def _priced(
    asked: Sequence[_Asked], before: Sequence[RefundView], units: Mapping[str, int], *, currency: str
) -> list[RefundItem]:
    """Return what each line's units are worth: all that has come back of it by then, less what was given for it before.

    So the parts sum to what the line cost, whatever was rejected in between.
    """
    given: dict[str, Decimal] = {}
    for refund in before:
        for item in refund.items:
            given[item.sku] = given.get(item.sku, Decimal(0)) + item.amount
    priced = []
    for each in asked:
        line = each.line
        worth = refund_amount(
            paid=Decimal(line.line_total) - Decimal(line.discount) - Decimal(line.points_value),
            quantity=line.quantity,
            already=0,
            returning=units.get(line.sku, 0) + each.quantity,
            currency=currency,
        )
        amount = max(worth - given.get(line.sku, Decimal(0)), Decimal(0))
        priced.append(RefundItem(line.sku, each.quantity, amount))
    return priced


def _asked_units(refunds: Sequence[RefundView]) -> Counter[str]:
    """Return how many units of each SKU the refunds are for that are not rejected."""
    units: Counter[str] = Counter()
    for refund in refunds:
        if not refund.unexpected and refund.status not in VOID_REFUNDS:
            units.update({item.sku: item.quantity for item in refund.items})
    return units


def _decided_amount(order: Order) -> Decimal:
    """Return how much of the order's own money goes back or has gone back for certain."""
    decided = [r for r in refunds_of(order.id) if r.status in DECIDED_REFUNDS and not r.unexpected]
    return sum((refund.amount for refund in decided), Decimal(0))


def _captured(order: Order) -> Decimal:
    attempt = accepted_attempt(order.id)
    return Decimal(0) if attempt is None else attempt.captured_amount


def _return_units(place: Place, order: Order, items: Sequence[RefundItem], *, now: datetime) -> None:
    """Count units as never to be sent, and owe them to the stock; raises RefundNotOpen for more than were bought."""
    lines = OrderLine.objects.at(place, Month.of_id(order.id)).filter(order_id=order.id)
    for item in items:
        counted = lines.filter(sku=item.sku, returned_quantity__lte=F("quantity") - item.quantity).update(
            returned_quantity=F("returned_quantity") + item.quantity
        )
        if counted != 1:
            raise RefundNotOpen(f"More units of {item.sku} than were bought would be back in stock.")
    owe_stock_return(place, order.id, now=now)


def _tell(
    place: Place, order: Order, refund: RefundView, kind: str, *, actor: str, whole: bool = False, now: datetime
) -> None:
    """Raise the order's version for a decision about one of its refunds, and tell of it."""
    advance(
        place,
        order,
        changes={"refunding": True} if whole and not order.refunding else {},
        kind=kind,
        actor=actor,
        detail=refund.refund_id,
        now=now,
        payload={"refund_id": refund.refund_id, "amount": str(refund.amount), "currency": refund.currency},
    )


def _decide(
    order_id: int, n: int, expected: RefundStatus, write: Callable[[Place, Order, RefundView], None]
) -> RefundView:
    """Let `write` decide on a refund in the expected state, under the order's lock; returns the refund afterwards."""
    place = place_of_order(order_id)

    def decide(order: Order | None) -> RefundView:
        refund = get_refund(order_id, n)
        if refund is None:
            raise PaymentNotFound("There is no such refund.")
        if refund.status != expected:
            by = f", decided by {refund.decided_by}" if refund.decided_by else ""
            raise RefundNotOpen(f"{refund.refund_id} is {refund.status}{by}.")
        write(place, _existing(order), refund)
        decided = get_refund(order_id, n)
        if decided is None:
            raise PaymentNotFound("There is no such refund.")
        return decided

    return _under_lock(place, order_id, decide)


def _under_lock(place: Place, order_id: int, decide: Callable[[Order | None], T]) -> T:
    def transaction() -> T:
        with place.atomic():
            return decide(lock_order(place, order_id))

    return with_deadlock_retry(transaction)


def _existing(order: Order | None) -> Order:
    if order is None:
        raise OrderNotFound("There is no such order.")
    return order
