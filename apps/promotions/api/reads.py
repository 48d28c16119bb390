"""GET of flash sales: functions of the fast lane (infra/http/lane.py), answered from what the worker keeps."""

from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final

import msgspec
from django.conf import settings
from django.http import QueryDict
from django.utils import timezone

from apps.promotions import selectors
from apps.promotions.api.serializers import FlashSaleQuery
from apps.promotions.domain import LIVE_STATES, Phase
from apps.promotions.errors import SaleNotFound
from apps.promotions.types import ItemKey, Sale
from infra.api.conditional import conditional_answer
from infra.api.pagination import CursorCodec
from infra.api.rendering import rfc3339
from infra.api.views import parse_id
from infra.http.messages import LaneRequest, LaneResponse

_encode: Final = msgspec.json.Encoder().encode


def sales(request: LaneRequest) -> LaneResponse:
    """List the sales that run or are to come, newest first."""
    query = FlashSaleQuery.read(QueryDict(request.query))
    codec = CursorCodec("flash-sales")
    key = codec.decode(query.get("cursor"))
    now = timezone.now()
    found = [sale for sale in selectors.listed_sales() if now < sale.ends_at and (key is None or sale.id < int(key[0]))]
    page, more = found[: query["limit"]], len(found) > query["limit"]
    left = _left_of(*page)
    documents = [sale_document(sale, left, now=now) for sale in page]
    cursor = codec.encode([page[-1].id]) if more else None
    results = [{**document, "server_time": rfc3339(now)} for document in documents]
    return _answer(request, {"results": results, "next": cursor}, tagged=[documents, more])


def sale(request: LaneRequest) -> LaneResponse:
    """Show a sale and what is left."""
    now = timezone.now()
    found = shown_sale(request.path.rpartition("/")[2], user_id=None, now=now)
    document = sale_document(found, _left_of(found), now=now)
    return _answer(request, {**document, "server_time": rfc3339(now)}, tagged=document)


def shown_sale(text: str, *, user_id: int | None, now: datetime) -> Sale:
    """Return the sale that a path names; raises SaleNotFound also for one that this user (None: all) is not to see."""
    sale = selectors.find_sale(parse_id(text, what="sale"))
    if sale is None or not sale.is_shown_to(user_id, now=now):
        raise SaleNotFound("There is no such sale.")
    return sale


def _left_of(*sales: Sale) -> Mapping[ItemKey, int]:
    return selectors.units_left([(sale.id, sku) for sale in sales for sku in sale.items])


def sale_document(sale: Sale, left: Mapping[ItemKey, int], *, now: datetime) -> dict[str, Any]:
    """Return what a shopper sees of a sale, but for the server's clock. `status` goes by the clock, like selling."""
    return {
        "id": str(sale.id),
        "name": sale.name,
        "status": _status(sale, now),
        "starts_at": rfc3339(sale.starts_at),
        "ends_at": rfc3339(sale.ends_at),
        "mode": str(sale.mode),
        "token_required": sale.token_required,
        "items": [
            {
                "sku": item.sku,
                "title": item.title,
                "price": str(item.price),
                "currency": item.currency,
                "quota": item.quota,
                "left": max(left.get((sale.id, item.sku), 0), 0),
                "per_user_limit": item.per_user_limit,
            }
            for item in sale.items.values()
        ],
    }


def _status(sale: Sale, now: datetime) -> str:
    if sale.state in LIVE_STATES:
        words = {Phase.UPCOMING: "scheduled", Phase.OPEN: "running", Phase.OVER: "ended", Phase.PAUSED: "paused"}
        return words[sale.phase(now)]
    return str(sale.state)


def _answer(request: LaneRequest, document: object, *, tagged: object) -> LaneResponse:
    """Answer with a weak tag, which leaves out what changes with the clock alone."""
    digest = blake2b(_encode(tagged), digest_size=12).hexdigest()
    return conditional_answer(
        request, body=_encode(document), etag=f'W/"{digest}"', max_age_s=settings.FLASH_SALE_MAX_AGE_S
    )
