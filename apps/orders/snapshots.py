"""Turns rows of an order into the values that others see."""

from collections.abc import Iterable
from decimal import Decimal

from msgspec.structs import replace

from apps.orders.domain import (
    Closure,
    FulfillmentStatus,
    OrderStatus,
    PaymentStatus,
    round_money,
    status_of,
)
from apps.orders.models import Order, OrderEvent, OrderLine
from apps.orders.types import OrderEventView, OrderLineView, OrderSummary, OrderView
from apps.users.types import ADDRESS_FIELDS
from infra.sharding.ids import time_of

_NO_ADDRESS = dict.fromkeys(ADDRESS_FIELDS, "")


def order_view(order: Order, lines: Iterable[OrderLine]) -> OrderView:
    """Return the order as its owner sees it; `lines` in ascending order."""
    currency = order.currency
    return OrderView(
        id=order.id,
        user_id=order.user_id,
        status=order.status,
        payment_status=order.payment_status,
        fulfillment_status=order.fulfillment_status,
        currency=currency,
        subtotal=round_money(order.subtotal, currency),
        discount=round_money(order.discount, currency),
        points_used=order.points_used,
        points_value=round_money(order.points_value, currency),
        shipping_fee=round_money(order.shipping_fee, currency),
        total=round_money(order.total, currency),
        refunded_total=round_money(order.refunded_total, currency),
        items=tuple(_line_view(line, currency) for line in lines),
        address={**_NO_ADDRESS, "city": order.city, "country": order.country, **(order.address or {})},
        coupons=tuple(order.coupons.split(",")) if order.coupons else (),
        note=order.note,
        cancel_reason=order.cancel_reason,
        placed_at=time_of(order.id),
        expires_at=order.expires_at,
        paid_at=order.paid_at,
        updated_at=order.updated_at,
        version=order.version,
    )


def as_placed(order: OrderView) -> OrderView:
    """Return the order as its placing was answered, whatever has become of it since.

    Everything that an order's life changes has a known value at version 1; the rest never changes.
    """
    return replace(
        order,
        status=status_of(
            payment_status=PaymentStatus.UNPAID,
            fulfillment_status=FulfillmentStatus.NONE,
            closed_as=Closure.OPEN,
            refunding=False,
        ),
        payment_status=PaymentStatus.UNPAID,
        fulfillment_status=FulfillmentStatus.NONE,
        refunded_total=round_money(Decimal(0), order.currency),
        items=tuple(replace(line, refunded_quantity=0) for line in order.items),
        cancel_reason="",
        paid_at=None,
        updated_at=order.placed_at,
        version=1,
    )


def order_event_view(event: OrderEvent) -> OrderEventView:
    """Return one step of an order's life."""
    return OrderEventView(version=event.version, kind=event.kind, at=event.at, actor=event.actor, detail=event.detail)


def order_summary(order: Order) -> OrderSummary:
    """Return the order as a row of the staff's list; it holds no personal data beyond city and country."""
    return OrderSummary(
        id=order.id,
        user_id=order.user_id,
        status=OrderStatus(order.status),
        payment_status=order.payment_status,
        fulfillment_status=order.fulfillment_status,
        currency=order.currency,
        total=round_money(order.total, order.currency),
        city=order.city,
        country=order.country,
        placed_at=time_of(order.id),
        updated_at=order.updated_at,
        version=order.version,
    )


def _line_view(line: OrderLine, currency: str) -> OrderLineView:
    return OrderLineView(
        line=line.line,
        sku=line.sku,
        title=line.title,
        quantity=line.quantity,
        unit_price=round_money(line.unit_price, currency),
        line_total=round_money(line.line_total, currency),
        discount=round_money(line.discount, currency),
        points_value=round_money(line.points_value, currency),
        refunded_quantity=line.refunded_quantity,
    )
