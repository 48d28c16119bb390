"""POST /flash-sales/{id}/orders, the hottest endpoint of a sale: a function of the fast lane (infra/http/lane.py)."""

from functools import cache
from typing import Final

import msgspec
from django.conf import settings
from django.core.validators import RegexValidator
from django.utils import timezone

from apps.orders.api.placing import identify, order_answer
from apps.orders.api.serializers import SKU_PATTERN
from apps.orders.services.flash_queue import buy_in_sale
from apps.orders.types import FlashOrderRequest
from apps.promotions.services import ticket_text
from apps.promotions.types import QueuePlace
from infra.api.parsers import decode_body
from infra.api.serializers import IdField, StrictCharField, StrictIntegerField, StrictSerializer
from infra.api.views import parse_id
from infra.http.lane import request_address, text_header
from infra.http.messages import LaneRequest, LaneResponse
from infra.idempotency.keys import REPLAYED, request_key

TOKEN_HEADER: Final = "Purchase-Token"  # noqa: S105 - the name of a header
_TOKEN_HEADER: Final = TOKEN_HEADER.lower().encode("ascii")
_encode: Final = msgspec.json.Encoder().encode


class FlashOrderSerializer(StrictSerializer):
    """The body of POST /flash-sales/{id}/orders."""

    sku = StrictCharField(max_length=64, validators=[RegexValidator(SKU_PATTERN, code="invalid")])
    quantity = StrictIntegerField(min_value=1, max_value=settings.ORDER_MAX_QUANTITY)
    address_id = IdField()


def buy(request: LaneRequest) -> LaneResponse:
    """Buy, or return the order that this key has placed, or the ticket that it has drawn."""
    now = timezone.now()
    shopper, key = identify(request, now=now)
    body = decode_body(request.body)
    wanted = _reader().run_validation(body)
    bought = buy_in_sale(
        FlashOrderRequest(
            key=request_key(user_id=shopper.user_id, method="POST", path=request.path, key=key, body=body),
            sale_id=parse_id(request.path.split("/")[-2], what="sale"),
            sku=wanted["sku"],
            quantity=wanted["quantity"],
            address_id=wanted["address_id"],
            token=text_header(request, _TOKEN_HEADER),
            exempt=shopper.exempt,
            address=request_address(request),
        ),
        now=now,
    )
    if isinstance(bought, QueuePlace):
        headers = [(b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store")]
        if not bought.is_new:
            headers.append(REPLAYED)
        return LaneResponse(202, headers, _encode({"ticket": ticket_text(bought.ticket), "position": bought.position}))
    return order_answer(bought)


@cache
def _reader() -> FlashOrderSerializer:
    """Return the one serializer that reads all orders: validating leaves no trace in it, and making it costs much."""
    return FlashOrderSerializer()
