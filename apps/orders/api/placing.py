"""POST /orders, the hot endpoint: a function of the fast lane (infra/http/lane.py)."""

from datetime import datetime
from typing import Final

import msgspec
from django.utils import timezone

from apps.orders.api.reading import read_wanted_order
from apps.orders.api.rendering import order_document
from apps.orders.services.placement import place_order
from apps.orders.types import OrderRequest, PlacedOrder
from apps.users.authentication import shopper_of_request
from apps.users.types import Shopper
from infra.http.lane import require_json, text_header
from infra.http.messages import LaneRequest, LaneResponse
from infra.idempotency.keys import REPLAYED, read_key, request_key
from infra.ratelimit.services import check_user

_encode: Final = msgspec.json.Encoder().encode


def place(request: LaneRequest) -> LaneResponse:
    """Place an order, or return the one that this key has placed."""
    now = timezone.now()
    shopper, key = identify(request, now=now)
    wanted = read_wanted_order(request.body)
    placed = place_order(
        OrderRequest(
            key=request_key(user_id=shopper.user_id, method="POST", path=request.path, key=key, body=wanted.body),
            items=wanted.items,
            address_id=wanted.address_id,
            coupons=wanted.coupons,
            points=wanted.points,
            expected_total=wanted.expected_total,
            note=wanted.note,
            exempt=shopper.exempt,
        ),
        now=now,
    )
    return order_answer(placed)


def identify(request: LaneRequest, *, now: datetime) -> tuple[Shopper, str]:
    """Return who orders and under which key; raises what refuses a request before its body is looked at."""
    shopper = shopper_of_request(request, now=now)
    check_user(shopper.user_id, exempt=shopper.exempt)
    require_json(request)
    key = read_key(text_header(request, b"idempotency-key"), required=True)
    return shopper, str(key)


def order_answer(placed: PlacedOrder) -> LaneResponse:
    """Return the 201 of an order, new or placed before under the same key."""
    headers = [
        (b"Content-Type", b"application/json"),
        (b"Cache-Control", b"no-store"),
        (b"Location", b"/api/v1/orders/%d" % placed.order.id),
    ]
    if placed.replayed:
        headers.append(REPLAYED)
    return LaneResponse(201, headers, _encode(order_document(placed.order)))
