"""Renders orders as JSON values of the contract."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

import msgspec
from msgspec import Struct

from apps.orders.types import OrderEventView, OrderLineView, OrderView
from infra.api.rendering import rfc3339


class OrderDocument(Struct, frozen=True):
    """The contract's `Order`: as JSON, msgspec writes amounts and times just as the contract wants them."""

    id: str
    status: str
    payment_status: str
    fulfillment_status: str
    currency: str
    subtotal: Decimal
    discount: Decimal
    points_used: int
    points_value: Decimal
    shipping_fee: Decimal
    total: Decimal
    refunded_total: Decimal
    items: tuple[OrderLineView, ...]
    address: Mapping[str, str]
    coupons: tuple[str, ...]
    note: str
    cancel_reason: str | None
    placed_at: datetime
    expires_at: datetime | None
    paid_at: datetime | None
    updated_at: datetime
    version: int


def order_document(order: OrderView) -> OrderDocument:
    """Return the contract's `Order`, to be encoded by msgspec."""
    return OrderDocument(
        id=str(order.id),
        status=order.status,
        payment_status=order.payment_status,
        fulfillment_status=order.fulfillment_status,
        currency=order.currency,
        subtotal=order.subtotal,
        discount=order.discount,
        points_used=order.points_used,
        points_value=order.points_value,
        shipping_fee=order.shipping_fee,
        total=order.total,
        refunded_total=order.refunded_total,
        items=order.items,
        address=order.address,
        coupons=order.coupons,
        note=order.note,
        cancel_reason=order.cancel_reason or None,
        placed_at=order.placed_at,
        expires_at=order.expires_at,
        paid_at=order.paid_at,
        updated_at=order.updated_at,
        version=order.version,
    )


def order_json(order: OrderView) -> dict[str, object]:
    """Return the contract's `Order` as JSON values."""
    values: dict[str, object] = msgspec.to_builtins(order_document(order))
    return values


def order_event_json(event: OrderEventView) -> dict[str, object]:
    """Return one step of an order's life."""
    return {
        "version": event.version,
        "kind": event.kind,
        "at": rfc3339(event.at),
        "actor": event.actor,
        "detail": event.detail,
    }
