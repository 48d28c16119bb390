"""Correcting where an order goes, before any of it has left."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from apps.orders.domain import FulfillmentStatus, OrderStatus
from apps.orders.errors import AddressNotCorrectable, OrderMovedOn, OrderNotFound
from apps.orders.events import ADDRESS_CORRECTED
from apps.orders.locks import lock_order
from apps.orders.models import Order, PlacedAddress
from apps.orders.services.transitions import advance
from apps.users.types import AddressFields
from infra.sharding.places import place_of_order

CORRECTABLE: Final = frozenset({"name", "phone", "region", "city", "line1", "line2", "postcode"})
"""What may be corrected: all but the country, on which the price of an order may depend."""
_BEFORE_SHIPPING: Final = frozenset({OrderStatus.PENDING_PAYMENT, OrderStatus.PAID})


def may_correct_address(order: Order) -> bool:
    """Whether none of the order has left, and all of it still may."""
    return order.status in _BEFORE_SHIPPING and order.fulfillment_status == FulfillmentStatus.NONE


def correct_address(
    *, order_id: int, changes: Mapping[str, str], actor: str, now: datetime, version: int | None = None
) -> int:
    """Change parts of an order's address, which are checked already; returns the order's version.

    Raises OrderNotFound, OrderMovedOn (another version than the one decided on), AddressNotCorrectable; ValueError for
    what is no part of an address. The event names the parts, not what they say, and what the order
    was placed with is kept for late repeats of its request. Concurrency: decides under the lock of
    the order's row, which shipping takes too.
    """
    if not changes or not changes.keys() <= CORRECTABLE:
        raise ValueError(f"{sorted(changes)} cannot be corrected")
    place = place_of_order(order_id)
    with place.atomic():
        order = lock_order(place, order_id)
        if order is None:
            raise OrderNotFound("There is no such order.")
        if version is not None and order.version != version:
            raise OrderMovedOn("The order has changed meanwhile.")
        if not may_correct_address(order) or order.address is None:
            raise AddressNotCorrectable(f"The address of an order that is {order.status} stays as it is.")
        address = AddressFields.from_json({**order.address, **changes}).as_json()
        if address == order.address:
            return int(order.version)
        corrected = advance(
            place,
            order,
            changes={"address": address, "city": address["city"]},
            kind=ADDRESS_CORRECTED,
            actor=actor,
            detail=", ".join(sorted(changes)),
            now=now,
            payload={"changed": sorted(changes), "city": address["city"], "country": address["country"]},
        )
        if not PlacedAddress.objects.at(place).filter(order_id=order_id).exists():
            PlacedAddress(slot=place.slot, order_id=order_id, address=order.address, at=now).save(
                using=place.alias, force_insert=True
            )
        return int(corrected.version)
