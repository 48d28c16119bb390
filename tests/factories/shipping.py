"""Paid orders that can be shipped, and signed track events made by hand."""

import json
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone
from requests.structures import CaseInsensitiveDict

from apps.orders.locks import lock_order
from apps.orders.models import Order
from apps.orders.selectors import find_order
from apps.orders.services.payment import record_payment_outcome
from apps.orders.services.shipping import hand_over, prepare_shipment
from apps.orders.services.tracking import receive_track_event
from apps.orders.services.transitions import advance
from apps.orders.types import OrderView, ShipmentView
from apps.payments.services import create_attempt
from apps.payments.types import AttemptStatus, PaymentOutcome
from deploy.sandbox.signing import SIGNATURE_HEADER, signature_header
from infra.sharding.places import place_of_order
from tests.factories.orders import Buyer, make_buyer, make_sku, placed_order
from tests.factories.payments import SECRET

BOB = "staff:bob"


def paid_order(quantities: Sequence[int] = (2,), *, shard: int | None = None, buyer: Buyer | None = None) -> OrderView:
    """Place and pay an order with a line of a new SKU for each quantity."""
    items = [(make_sku(100, price="2.50"), quantity) for quantity in quantities]
    order = placed_order(buyer or make_buyer(shard=shard), items)
    pay(order)
    return order


def pay(order: OrderView) -> None:
    """Pay an order as a provider's word does."""
    place, now = place_of_order(order.id), timezone.now()
    with place.atomic():
        row = lock_order(place, order.id)
        assert row is not None
        advance(place, row, changes={}, kind="payment_started", actor="shopper", detail="", now=now)
        attempt = create_attempt(
            place,
            order_id=order.id,
            amount=order.total,
            currency=order.currency,
            provider="sandbox",
            method="",
            return_url="",
            expires_at=order.expires_at,
            now=now,
        )
    outcome = PaymentOutcome(AttemptStatus.SUCCEEDED)
    record_payment_outcome(order_id=order.id, n=attempt.n, outcome=outcome, now=now)


def reload(order: OrderView) -> Order:
    """Return the order's row as it is now."""
    found = find_order(order.id)
    assert found is not None
    return found


def statuses(order: OrderView) -> tuple[str, str]:
    """Return the order's status and fulfilment as they are now."""
    row = reload(order)
    return row.status, row.fulfillment_status


def prepare(order: OrderView, **fields: Any) -> ShipmentView:
    """Prepare a shipment of all that is left, or as the fields say."""
    return prepare_shipment(order_id=order.id, **{"actor": BOB, "now": timezone.now(), **fields})


def shipped(order: OrderView, **fields: Any) -> ShipmentView:
    """Prepare a shipment and hand it over to a carrier that tells nothing by itself."""
    shipment = prepare(order, **fields)
    return hand_over(order_id=order.id, n=shipment.n, carrier="hermes", number="H 123", actor=BOB, now=timezone.now())


def track_event(
    reference: str,
    status: str,
    *,
    at: datetime | str | None = None,
    event_id: str | None = None,
    secret: str = SECRET,
    signed_at_s: float | None = None,
    place: str = "London",
    **extra: object,
) -> tuple[bytes, dict[str, str]]:
    """Return the body and headers of a track event, as the sandbox would send it."""
    moment = at or datetime.now(UTC)
    parcel = {
        "reference": reference,
        "number": "SB1",
        "status": status,
        "at": moment if isinstance(moment, str) else moment.isoformat(),
        "place": place,
    }
    event = {
        "event_id": f"trk_{secrets.token_hex(8)}" if event_id is None else event_id,
        "type": f"parcel.{status}",
        "parcel": parcel,
        **extra,
    }
    body = json.dumps(event).encode()
    at_s = int(time.time() if signed_at_s is None else signed_at_s)
    return body, {SIGNATURE_HEADER: signature_header(secret=secret, body=body, at_s=at_s)}


def deliver(body: bytes, headers: dict[str, str], *, carrier: str = "sandbox") -> bool:
    """Hand a track event to the use case, as the view does; header names without regard to case."""
    return receive_track_event(carrier=carrier, headers=CaseInsensitiveDict(headers), raw_body=body, now=timezone.now())
