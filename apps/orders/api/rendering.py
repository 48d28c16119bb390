"""Renders orders as JSON values of the contract."""

from datetime import UTC, datetime

from apps.orders.types import OrderEventView, OrderView


def order_json(order: OrderView) -> dict[str, object]:
    """Return the contract's `Order`."""
    return {
        "id": str(order.id),
        "status": str(order.status),
        "payment_status": str(order.payment_status),
        "fulfillment_status": str(order.fulfillment_status),
        "currency": order.currency,
        "subtotal": str(order.subtotal),
        "discount": str(order.discount),
        "points_used": order.points_used,
        "points_value": str(order.points_value),
        "shipping_fee": str(order.shipping_fee),
        "total": str(order.total),
        "refunded_total": str(order.refunded_total),
        "items": [
            {
                "line": item.line,
                "sku": item.sku,
                "title": item.title,
                "quantity": item.quantity,
                "unit_price": str(item.unit_price),
                "line_total": str(item.line_total),
                "refunded_quantity": item.refunded_quantity,
            }
            for item in order.items
        ],
        "address": dict(order.address),
        "coupons": list(order.coupons),
        "note": order.note,
        "cancel_reason": order.cancel_reason or None,
        "placed_at": rfc3339(order.placed_at),
        "expires_at": None if order.expires_at is None else rfc3339(order.expires_at),
        "paid_at": None if order.paid_at is None else rfc3339(order.paid_at),
        "updated_at": rfc3339(order.updated_at),
        "version": order.version,
    }


def order_event_json(event: OrderEventView) -> dict[str, object]:
    """Return one step of an order's life."""
    return {
        "version": event.version,
        "kind": event.kind,
        "at": rfc3339(event.at),
        "actor": event.actor,
        "detail": event.detail,
    }


def rfc3339(at: datetime) -> str:
    """Return a time in UTC, ending in `Z`."""
    return at.astimezone(UTC).isoformat().removesuffix("+00:00") + "Z"
