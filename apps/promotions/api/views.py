"""Flash sales in Django's URLs, and what the schema says of them; reads.py answers the public ones."""

from typing import Any, Final

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response

from apps.promotions.api import reads
from apps.promotions.api.reads import shown_sale
from apps.promotions.api.serializers import (
    EntrySerializer,
    FlashSaleListSerializer,
    FlashSaleQuery,
    FlashSaleSerializer,
    PurchaseTokenSerializer,
)
from apps.promotions.services import check_not_blocked, issue_purchase_token
from apps.users.api.authentication import current_shopper
from apps.users.api.permissions import IsShopper
from infra.api.client_address import client_address
from infra.api.lane_views import LaneReadView
from infra.api.rendering import rfc3339
from infra.api.schema import NOT_MODIFIED, TAG_HEADERS
from infra.api.views import ApiView
from infra.idempotency.api import IdempotentMixin
from infra.idempotency.schema import OPTIONAL_KEY, replayed_header

SALE_ID: Final = OpenApiParameter(
    "sale_id", OpenApiTypes.STR, OpenApiParameter.PATH, pattern="^[1-9][0-9]{0,18}$", description="The sale's id."
)


@extend_schema(
    operation_id="flash_sales_list",
    summary="List the sales that run or are to come, newest first",
    responses={200: FlashSaleListSerializer, 304: NOT_MODIFIED},
    parameters=[FlashSaleQuery, *TAG_HEADERS],
)
class FlashSaleList(LaneReadView):
    """GET /flash-sales."""

    endpoint = reads.sales


@extend_schema(
    operation_id="flash_sales_retrieve",
    summary="Show a sale and what is left",
    responses={200: FlashSaleSerializer, 304: NOT_MODIFIED},
    parameters=[SALE_ID, *TAG_HEADERS],
)
class FlashSaleDetail(LaneReadView):
    """GET /flash-sales/{sale_id}."""

    endpoint = reads.sale


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
        now, user_id = timezone.now(), current_shopper(request).user_id
        sale = shown_sale(kwargs["sale_id"], user_id=user_id, now=now)
        check_not_blocked(sale.id, user_id=user_id, address=client_address(request.META))
        token, expires_at = issue_purchase_token(sale, user_id=user_id, now=now)
        return Response({"purchase_token": token, "expires_at": rfc3339(expires_at)})
