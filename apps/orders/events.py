"""Names and payloads of the events of orders."""

from collections.abc import Mapping
from typing import Final

from infra.outbox.types import EventDraft

AGGREGATE: Final = "order"

# What can happen to an order: the kind of the order event, and after `order.` the type of the domain event.
PLACED: Final = "placed"
PAYMENT_STARTED: Final = "payment_started"
PAYMENT_UPDATED: Final = "payment_updated"
AUTHORIZED: Final = "authorized"
CAPTURE_REQUESTED: Final = "capture_requested"
PAID: Final = "paid"
PAYMENT_FAILED: Final = "payment_failed"
PAYMENT_UNEXPECTED: Final = "payment_unexpected"
CANCELLED: Final = "cancelled"
EXPIRED: Final = "expired"
REFUND_REQUESTED: Final = "refund_requested"
REFUND_APPROVED: Final = "refund_approved"
REFUND_REJECTED: Final = "refund_rejected"
REFUND_FAILED: Final = "refund_failed"
REFUNDING: Final = "refunding"
REFUNDED: Final = "refunded"
IMPORTED: Final = "imported"
FULFILLING: Final = "fulfilling"
SHIPMENT_PREPARED: Final = "shipment_prepared"
SHIPMENT_CANCELLED: Final = "shipment_cancelled"
SHIPMENT_UPDATED: Final = "shipment_updated"
SHIPPED: Final = "shipped"
COMPLETED: Final = "completed"
RETURN_REQUESTED: Final = "return_requested"
RETURN_APPROVED: Final = "return_approved"
RETURN_REJECTED: Final = "return_rejected"
RETURN_RECEIVED: Final = "return_received"
ERASED: Final = "erased"
ADDRESS_CORRECTED: Final = "address_corrected"

# All that is told of orders, to other systems too (apps/notifications); imported orders tell nothing.
ORDER_EVENTS: Final = frozenset(
    f"{AGGREGATE}.{kind}"
    for kind in (
        PLACED,
        PAYMENT_STARTED,
        PAYMENT_UPDATED,
        AUTHORIZED,
        CAPTURE_REQUESTED,
        PAID,
        PAYMENT_FAILED,
        PAYMENT_UNEXPECTED,
        CANCELLED,
        EXPIRED,
        REFUND_REQUESTED,
        REFUND_APPROVED,
        REFUND_REJECTED,
        REFUND_FAILED,
        REFUNDING,
        REFUNDED,
        FULFILLING,
        SHIPMENT_PREPARED,
        SHIPMENT_CANCELLED,
        SHIPMENT_UPDATED,
        SHIPPED,
        COMPLETED,
        RETURN_REQUESTED,
        RETURN_APPROVED,
        RETURN_REJECTED,
        RETURN_RECEIVED,
        ERASED,
        ADDRESS_CORRECTED,
    )
)

# The events after which the reservation of the order has to change (consumers.py; the scan is `sync_stock`).
STOCK_EVENTS: Final = frozenset(f"{AGGREGATE}.{kind}" for kind in (PAID, CANCELLED, EXPIRED, REFUNDING, REFUNDED))


def order_event_draft(
    kind: str,
    *,
    order_id: int,
    user_id: int,
    version: int,
    status: str,
    payment_status: str,
    payload: Mapping[str, object] | None = None,
    headers: str = "",
) -> EventDraft:
    """Return the domain event of one change of an order; every payload tells the statuses, none tells personal data."""
    return EventDraft(
        type=f"{AGGREGATE}.{kind}",
        aggregate=AGGREGATE,
        aggregate_id=order_id,
        version=version,
        user_id=user_id,
        order_id=order_id,
        payload={"status": status, "payment_status": payment_status, **(payload or {})},
        headers=headers,
    )
