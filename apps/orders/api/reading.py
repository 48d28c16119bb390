"""Reads the body of POST /orders: the usual one in a few microseconds, any other by the serializer.

`PlaceOrderSerializer` is what decides, and what tells a client all that is wrong. The quick way takes only bodies that
it can take no other way: plain ones with lines, an address and perhaps coupons, points and an expected total.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Final

import msgspec
from django.conf import settings

from apps.orders.api.serializers import MAX_COUPONS, MAX_POINTS, SKU_PATTERN, PlaceOrderSerializer
from infra.api.fields import MONEY_PATTERN, id_from_text
from infra.api.parsers import decode_body

_Coupon = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}\Z")]


class _Item(msgspec.Struct, forbid_unknown_fields=True):
    sku: Annotated[str, msgspec.Meta(pattern=SKU_PATTERN)]
    quantity: Annotated[int, msgspec.Meta(ge=1, le=settings.ORDER_MAX_QUANTITY)]


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    items: Annotated[list[_Item], msgspec.Meta(min_length=1, max_length=settings.ORDER_MAX_LINES)]
    address_id: str
    coupons: Annotated[list[_Coupon], msgspec.Meta(max_length=MAX_COUPONS)] = []
    points: Annotated[int, msgspec.Meta(ge=0, le=MAX_POINTS)] = 0
    expected_total: Annotated[str, msgspec.Meta(pattern=MONEY_PATTERN)] | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True, slots=True)
class WantedOrder:
    """What a body asks for, checked as far as that needs no database; `body` is all of it, decoded."""

    body: object
    items: tuple[tuple[str, int], ...]
    address_id: int
    coupons: tuple[str, ...] = ()
    points: int = 0
    expected_total: Decimal | None = None
    note: str = ""


def read_wanted_order(raw: bytes) -> WantedOrder:
    """Return what a body asks for; raises BadRequest, PayloadTooLarge, ValidationFailed, DRF's ValidationError."""
    return _read_plain(raw) or _read_any(raw)


_decode: Final = msgspec.json.Decoder().decode
_MAX_PLAIN_BYTES: Final = 8 * 1024
_AT_MOST_ONCE: Final = (b'"expected_total"', b'"coupons"', b'"points"')


def _read_plain(raw: bytes) -> WantedOrder | None:
    """Return what a plain body asks for, or None where the serializer has to look.

    Members named twice are refused by the contract and unseen by msgspec. Without escapes each member's name stands
    there as it is, so counting the names finds a second one.
    """
    if len(raw) > _MAX_PLAIN_BYTES or b"\\" in raw:
        return None
    try:
        body = _decode(raw)
        wanted = msgspec.convert(body, _Body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    address_id = id_from_text(wanted.address_id) if wanted.address_id else None
    line_count = len(wanted.items)
    is_plain = (
        address_id is not None
        and raw.count(b'"sku"') == line_count
        and raw.count(b'"quantity"') == line_count
        and raw.count(b'"items"') == 1
        and raw.count(b'"address_id"') == 1
        and max(map(raw.count, _AT_MOST_ONCE)) <= 1
    )
    if address_id is None or not is_plain:
        return None
    return WantedOrder(
        body=body,
        items=tuple([(item.sku, item.quantity) for item in wanted.items]),
        address_id=address_id,
        coupons=tuple(wanted.coupons),
        points=wanted.points,
        expected_total=None if wanted.expected_total is msgspec.UNSET else Decimal(wanted.expected_total),
    )


def _read_any(raw: bytes) -> WantedOrder:
    body = decode_body(raw)
    wanted: Mapping[str, Any] = _serializer().run_validation(body)
    return WantedOrder(
        body=body,
        items=tuple((item["sku"], item["quantity"]) for item in wanted["items"]),
        address_id=wanted["address_id"],
        coupons=tuple(wanted.get("coupons", ())),
        points=wanted.get("points", 0),
        expected_total=wanted.get("expected_total"),
        note=wanted.get("note", ""),
    )


@cache
def _serializer() -> PlaceOrderSerializer:
    """Return the one serializer that reads all orders: validating leaves no trace in it, and making it costs much."""
    return PlaceOrderSerializer()
