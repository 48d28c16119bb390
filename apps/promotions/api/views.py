"""Flash sales over HTTP: list, detail, entry. Reads come from what the worker keeps, ahead of DRF's machinery."""

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final

import msgspec
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from apps.promotions import selectors
from apps.promotions.api.serializers import (
    EntrySerializer,
    FlashSaleListSerializer,
    FlashSaleQuery,
    FlashSaleSerializer,
    PurchaseTokenSerializer,
)
from apps.promotions.domain import LIVE_STATES, Phase
from apps.promotions.errors import SaleNotFound
from apps.promotions.services import issue_purchase_token
from apps.promotions.types import ItemKey, Sale
from apps.users.api.authentication import current_shopper
from apps.users.api.permissions import IsShopper
from infra.api.conditional import conditional_answer
from infra.api.pagination import CursorCodec
from infra.api.views import ApiView, parse_id
from infra.idempotency.api import IdempotentMixin
from infra.idempotency.schema import OPTIONAL_KEY, replayed_header

SALE_ID: Final = OpenApiParameter(
    "sale_id", OpenApiTypes.STR, OpenApiParameter.PATH, pattern="^[1-9][0-9]{0,18}$", description="The sale's id."
)
_NOT_MODIFIED: Final = OpenApiResponse(
    description="The entity tag sent in `If-None-Match` is still that of the answer."
)
_TAG_HEADERS: Final = [
    OpenApiParameter("ETag", str, OpenApiParameter.HEADER, response=[200, 304]),
    OpenApiParameter("Cache-Control", str, OpenApiParameter.HEADER, response=[200, 304]),
]
_encode: Final = msgspec.json.Encoder().encode


class _PublicRead(ApiView):
    """A public read: subclasses find the body."""

    authentication_classes = []
    permission_classes = [AllowAny]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer reads at once; errors are rendered by the problem middleware."""
        if request.method in ("GET", "HEAD"):
            return self.get(request, *args, **kwargs)
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Answer from the cache, or that nothing has changed."""
        raise NotImplementedError


class FlashSaleList(_PublicRead):
    """GET /flash-sales."""

    @extend_schema(
        operation_id="flash_sales_list",
        summary="List the sales that run or are to come, newest first",
        responses={200: FlashSaleListSerializer, 304: _NOT_MODIFIED},
        parameters=[FlashSaleQuery, *_TAG_HEADERS],
    )
    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """List sales."""
        query = FlashSaleQuery.read(request.GET)
        codec = CursorCodec("flash-sales")
        key = codec.decode(query.get("cursor"))
        now = timezone.now()
        sales = [
            sale for sale in selectors.listed_sales() if now < sale.ends_at and (key is None or sale.id < int(key[0]))
        ]
        page, more = sales[: query["limit"]], len(sales) > query["limit"]
        left = _left_of(*page)
        documents = [_document(sale, left) for sale in page]
        cursor = codec.encode([page[-1].id]) if more else None
        results = [{**document, "server_time": _rfc3339(now)} for document in documents]
        return _answer(request, {"results": results, "next": cursor}, tagged=[documents, more])


class FlashSaleDetail(_PublicRead):
    """GET /flash-sales/{sale_id}."""

    @extend_schema(
        operation_id="flash_sales_retrieve",
        summary="Show a sale and what is left",
        responses={200: FlashSaleSerializer, 304: _NOT_MODIFIED},
        parameters=[SALE_ID, *_TAG_HEADERS],
    )
    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show a sale."""
        sale = _shown_sale(kwargs["sale_id"], now=timezone.now())
        document = _document(sale, _left_of(sale))
        return _answer(request, {**document, "server_time": _rfc3339(timezone.now())}, tagged=document)


@extend_schema_view(
    post=extend_schema(
        operation_id="flash_sales_enter",
        summary="Get a purchase token, from the sale's start on",
        parameters=[SALE_ID, OPTIONAL_KEY, replayed_header(200)],
        request=EntrySerializer,
        responses={200: OpenApiResponse(PurchaseTokenSerializer, description="A token for this shopper and sale.")},
    )
)
class FlashSaleEntry(IdempotentMixin, ApiView):
    """POST /flash-sales/{sale_id}/entry."""

    permission_classes = [IsShopper]

    def post_once(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Hand out a token."""
        EntrySerializer(data=request.data).is_valid(raise_exception=True)
        now = timezone.now()
        sale = _shown_sale(kwargs["sale_id"], now=now)
        token, expires_at = issue_purchase_token(sale, user_id=current_shopper(request).user_id, now=now)
        return Response({"purchase_token": token, "expires_at": _rfc3339(expires_at)})


def _shown_sale(text: str, *, now: datetime) -> Sale:
    sale = selectors.find_sale(parse_id(text, what="sale"))
    if sale is None or sale.phase(now) == Phase.HIDDEN:
        raise SaleNotFound("There is no such sale.")
    return sale


def _left_of(*sales: Sale) -> Mapping[ItemKey, int]:
    return selectors.units_left([(sale.id, sku) for sale in sales for sku in sale.items])


def _document(sale: Sale, left: Mapping[ItemKey, int]) -> dict[str, Any]:
    """Return what a shopper sees of a sale, but for the server's clock. `status` goes by the clock, like selling."""
    return {
        "id": str(sale.id),
        "name": sale.name,
        "status": _status(sale, timezone.now()),
        "starts_at": _rfc3339(sale.starts_at),
        "ends_at": _rfc3339(sale.ends_at),
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


def _rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().removesuffix("+00:00") + "Z"


def _answer(request: HttpRequest, document: object, *, tagged: object) -> HttpResponse:
    """Answer with a weak tag, which leaves out what changes with the clock alone."""
    digest = blake2b(_encode(tagged), digest_size=12).hexdigest()
    return conditional_answer(
        request, body=_encode(document), etag=f'W/"{digest}"', max_age_s=settings.FLASH_SALE_MAX_AGE_S
    )
