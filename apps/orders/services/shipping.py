"""Shipping by the staff: shipments are prepared, handed over to a carrier, or taken apart again.

Each is one transaction on the order's shard, under the lock of the order's row: what is left to ship, as it is read
then, is what is left. The order turns `fulfilling` with its first shipment, before anything has left: from then on its
shopper cannot cancel it any more.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

from apps.orders.carriers.registry import find_carrier
from apps.orders.domain import FulfillmentStatus, OrderStatus
from apps.orders.errors import OrderNotShippable, ShipmentNotFound, ShipmentRefused
from apps.orders.events import (
    COMPLETED,
    FULFILLING,
    SHIPMENT_CANCELLED,
    SHIPMENT_PREPARED,
    SHIPMENT_UPDATED,
    SHIPPED,
)
from apps.orders.fulfillment import (
    UNDER_WAY,
    LineShare,
    ShipmentStatus,
    TooManyUnits,
    allocate,
    shipment_id,
)
from apps.orders.models import Order, Shipment, ShipmentLine
from apps.orders.services.changing import change_order
from apps.orders.services.holds import require_not_held
from apps.orders.services.transitions import advance
from apps.orders.shipment_selectors import Goods, get_shipment, goods_of
from apps.orders.types import ShipmentView
from infra.errors import LimitReached
from infra.followups.services import schedule
from infra.sharding.months import Month
from infra.sharding.places import Place

BOOKING: Final = "shipment_booking"
"""Kind of the follow-up that brings a carrier of the registry in line with a shipment (`n` is the shipment's)."""

MAX_SHIPMENTS: Final = 200
_BEFORE_COMPLETION: Final = frozenset({OrderStatus.PAID, OrderStatus.FULFILLING, OrderStatus.SHIPPED})
# What came back without a refund is shipped again, or replaced, also when the order is complete.
SHIPPABLE: Final = frozenset({*_BEFORE_COMPLETION, OrderStatus.COMPLETED})
_COMPLETE: Final = frozenset({FulfillmentStatus.DELIVERED, FulfillmentStatus.RETURNED})
_CARRIER: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_NUMBER: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._/-]{0,62}[A-Za-z0-9])?")


def start_fulfilling(*, order_id: int, actor: str, expected_version: int | None = None, now: datetime) -> Order:
    """Take a paid order out of its shopper's hands: its goods are being collected.

    Idempotent: an order that is `fulfilling` is returned as it is. Raises OrderNotFound, OrderMovedOn,
    OrderNotShippable, OrderHeld. Concurrency: against a cancellation, whichever comes first wins.
    """

    def change(place: Place, order: Order) -> Order:
        if order.status == OrderStatus.FULFILLING:
            return order
        if order.status != OrderStatus.PAID:
            raise OrderNotShippable(f"An order that is {order.status} is not collected.")
        collected = advance(
            place,
            order,
            changes={"fulfillment_status": FulfillmentStatus.PARTIAL},
            kind=FULFILLING,
            actor=actor,
            detail="",
            now=now,
            payload={"fulfillment_status": str(FulfillmentStatus.PARTIAL)},
        )
        require_not_held(place, order.id)
        return collected

    return change_order(order_id, change, expected_version=expected_version)


def prepare_shipment(
    *,
    order_id: int,
    items: Mapping[str, int] | None = None,
    carrier: str = "",
    actor: str,
    expected_version: int | None = None,
    now: datetime,
) -> ShipmentView:
    """Begin a shipment of some units (by SKU) of an order, or of all that are left; the order is `fulfilling` then.

    With a carrier of the registry its booking is owed; that carrier's track events say when it has been handed over.
    Raises OrderNotFound, OrderMovedOn, OrderNotShippable (also for more than was bought and is neither shipped nor
    refunded nor asked to be), OrderHeld, ShipmentNotFound (no such carrier), LimitReached.
    Concurrency: of two shipments of the last unit at once, one is made.
    """
    if carrier and find_carrier(carrier) is None:
        raise ShipmentNotFound(f"There is no carrier {carrier!r}.")

    def change(place: Place, order: Order) -> int:
        _check_shippable(order)
        goods = goods_of(order)
        shares = _shares(goods, items)
        n = max(goods.shipments, default=0) + 1
        if n > MAX_SHIPMENTS:
            raise LimitReached("An order has a bounded number of shipments.")
        after = goods.with_units(shares, shipped=1).with_shipment(n, ShipmentStatus.PREPARED)
        detail = ", ".join(f"{share.units} x {share.sku}" for share in shares)
        advance_goods(place, order, after, told=[n], kind=SHIPMENT_PREPARED, actor=actor, detail=detail, now=now)
        require_not_held(place, order.id)
        _insert(place, order.id, n, shares, carrier=carrier, now=now)
        if carrier:
            schedule(place, kind=BOOKING, order_id=order.id, n=n, due_at=now, now=now)
        return n

    return existing_shipment(order_id, change_order(order_id, change, expected_version=expected_version))


def hand_over(
    *,
    order_id: int,
    n: int,
    carrier: str,
    number: str,
    actor: str,
    expected_version: int | None = None,
    now: datetime,
) -> ShipmentView:
    """Note that a prepared shipment has been handed over to a carrier under a tracking number.

    Idempotent: one that was handed over just so is returned as it is. Raises OrderNotFound, OrderMovedOn,
    ShipmentNotFound, OrderHeld, ShipmentRefused (handed over otherwise, cancelled, a name or number that is none, or
    units of it are not paid for any more: it is to be taken apart).
    """
    if not _CARRIER.fullmatch(carrier) or not _NUMBER.fullmatch(number):
        raise ShipmentRefused("A carrier has a short name of small letters; a tracking number, letters and digits.")

    def change(place: Place, order: Order) -> None:
        shipment = existing_shipment(order_id, n)
        if shipment.status != ShipmentStatus.PREPARED and (shipment.carrier, shipment.number) == (carrier, number):
            return
        _check_prepared(shipment)
        if shipment.carrier not in ("", carrier) or shipment.number not in ("", number):
            raise ShipmentRefused(f"This shipment is booked with {shipment.carrier}: {shipment.number}")
        packed = {share.line for share in shipment.items}
        if order.status not in SHIPPABLE or any(
            line.is_overdrawn for line in goods_of(order).units if line.line in packed
        ):
            raise ShipmentRefused("A refund was asked for what is in this shipment: take it apart.")
        move_shipments(
            place,
            order,
            {n: ShipmentStatus.HANDED_OVER},
            actor=actor,
            detail=f"{shipment.shipment_id} to {carrier}",
            now=now,
        )
        require_not_held(place, order_id)
        update_shipment(place, order_id, n, carrier=carrier, number=number)

    change_order(order_id, change, expected_version=expected_version)
    return existing_shipment(order_id, n)


def deliver_shipment(
    *, order_id: int, n: int, actor: str, expected_version: int | None = None, now: datetime
) -> ShipmentView:
    """Note that a shipment has arrived, for a carrier that tells nothing by itself.

    Idempotent. Raises OrderNotFound, OrderMovedOn, ShipmentNotFound; ShipmentRefused for one that has not left.
    """

    def change(place: Place, order: Order) -> None:
        shipment = existing_shipment(order_id, n)
        if shipment.status == ShipmentStatus.DELIVERED:
            return
        if shipment.status not in UNDER_WAY:
            raise ShipmentRefused(f"The shipment is {shipment.status}.")
        delivered = {n: ShipmentStatus.DELIVERED}
        move_shipments(place, order, delivered, actor=actor, detail=shipment.shipment_id, now=now)

    change_order(order_id, change, expected_version=expected_version)
    return existing_shipment(order_id, n)


def cancel_shipment(
    *, order_id: int, n: int, reason: str, actor: str, expected_version: int | None = None, now: datetime
) -> ShipmentView:
    """Take a prepared shipment apart: its units can be shipped again, or refunded. The order stays `fulfilling`.

    Idempotent. Raises OrderNotFound, OrderMovedOn, ShipmentNotFound, ShipmentRefused (it has left).
    """

    def change(place: Place, order: Order) -> None:
        shipment = existing_shipment(order_id, n)
        if shipment.status == ShipmentStatus.CANCELLED:
            return
        _check_prepared(shipment)
        after = goods_of(order).with_units(shipment.items, shipped=-1).with_shipment(n, ShipmentStatus.CANCELLED)
        advance_goods(place, order, after, told=[n], kind=SHIPMENT_CANCELLED, actor=actor, detail=reason, now=now)
        update_shipment(place, order_id, n, status=ShipmentStatus.CANCELLED, updated_at=now)
        if shipment.carrier:
            schedule(place, kind=BOOKING, order_id=order_id, n=n, due_at=now, now=now)

    change_order(order_id, change, expected_version=expected_version)
    return existing_shipment(order_id, n)


def settle_fulfillment(*, order_id: int, now: datetime) -> None:
    """Bring an order as far as its goods have come by other rows than its shipments': refunds of what was left to ship.

    Idempotent: where nothing changes, nothing is written. Raises OrderNotFound.
    """

    def change(place: Place, order: Order) -> None:
        goods = goods_of(order)
        if goods.fulfillment(order.fulfillment_status) != order.fulfillment_status:
            detail = "nothing else is left to ship"
            advance_goods(place, order, goods, told=[], kind=SHIPMENT_UPDATED, actor="system", detail=detail, now=now)

    change_order(order_id, change)


# -- parts, for the other use cases of shipments too -------------------------------------------------------------------


def existing_shipment(order_id: int, n: int) -> ShipmentView:
    """Return a shipment; raises ShipmentNotFound."""
    shipment = get_shipment(order_id, n)
    if shipment is None:
        raise ShipmentNotFound("There is no such shipment.")
    return shipment


def update_shipment(place: Place, order_id: int, n: int, **columns: object) -> None:
    """Write columns of a shipment, in the transaction that has moved the order."""
    Shipment.objects.at(place, Month.of_id(order_id)).filter(order_id=order_id, n=n).update(**columns)


def advance_goods(
    place: Place,
    order: Order,
    after: Goods,
    *,
    told: Collection[int],
    kind: str,
    actor: str,
    detail: str,
    now: datetime,
    changes: Mapping[str, object] | None = None,
    payload: Mapping[str, object] | None = None,
) -> Order:
    """Move an order as far as its goods have come, with an event that tells of some of its shipments; see `advance`.

    The event is `completed` where the order becomes so by it, else of the kind given.
    """
    fulfillment = after.fulfillment(order.fulfillment_status)
    all_changes = dict(changes or {})
    if fulfillment != order.fulfillment_status:
        all_changes["fulfillment_status"] = fulfillment
    completes = (
        order.status in _BEFORE_COMPLETION and fulfillment in _COMPLETE and not all_changes.get("refunding", False)
    )
    return advance(
        place,
        order,
        changes=all_changes,
        kind=COMPLETED if completes else kind,
        actor=actor,
        detail=detail[:255],
        now=now,
        payload={
            "fulfillment_status": str(fulfillment),
            "shipments": {shipment_id(order.id, n): str(after.shipments[n]) for n in told},
            **(payload or {}),
        },
    )


def move_shipments(
    place: Place, order: Order, statuses: Mapping[int, ShipmentStatus], *, actor: str, detail: str, now: datetime
) -> Order:
    """Move shipments to where they are now, and the order as far as that brings it, in the transaction that read it."""
    goods = goods_of(order)
    after = goods
    for n, status in statuses.items():
        after = after.with_shipment(n, status)
    leaves = any(goods.shipments[n] == ShipmentStatus.PREPARED != status for n, status in statuses.items())
    kind = SHIPPED if leaves else SHIPMENT_UPDATED
    moved = advance_goods(place, order, after, told=list(statuses), kind=kind, actor=actor, detail=detail, now=now)
    for n, status in statuses.items():
        if status == goods.shipments[n]:
            continue
        columns: dict[str, object] = {"status": status, "updated_at": now}
        if goods.shipments[n] == ShipmentStatus.PREPARED:
            columns["handed_over_at"] = now
        if status == ShipmentStatus.DELIVERED:
            columns["delivered_at"] = now
        update_shipment(place, order.id, n, **columns)
    return moved


def _check_shippable(order: Order) -> None:
    if order.status not in SHIPPABLE or order.source:
        raise OrderNotShippable(f"An order that is {order.status} is not shipped.")


def _check_prepared(shipment: ShipmentView) -> None:
    if shipment.status != ShipmentStatus.PREPARED:
        raise ShipmentRefused(f"The shipment is {shipment.status}.")


def _shares(goods: Goods, items: Mapping[str, int] | None) -> Sequence[LineShare]:
    """Return what goes into a shipment; raises OrderNotShippable."""
    if items is None:
        shares = goods.left
    else:
        try:
            shares = allocate({sku: units for sku, units in items.items() if units > 0}, goods.left)
        except TooManyUnits as error:
            told = ", ".join(f"{units} of {sku}" for sku, units in sorted(error.available.items()))
            raise OrderNotShippable(f"Only these are left to ship: {told}.") from error
    if not shares:
        raise OrderNotShippable("Nothing of this order is left to ship.")
    return shares


def _insert(place: Place, order_id: int, n: int, shares: Sequence[LineShare], *, carrier: str, now: datetime) -> None:
    month = Month.of_id(order_id)
    Shipment.objects.model_for(month, alias=place.alias)(
        slot=place.slot, order_id=order_id, n=n, carrier=carrier, created_at=now, updated_at=now
    ).save(using=place.alias, force_insert=True)
    line = ShipmentLine.objects.model_for(month, alias=place.alias)
    ShipmentLine.objects.at(place, month).bulk_create(
        line(slot=place.slot, order_id=order_id, n=n, line=share.line, sku=share.sku, quantity=share.units)
        for share in shares
    )
