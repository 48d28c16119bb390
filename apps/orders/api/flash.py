"""Buying in a flash sale: POST /flash-sales/{id}/orders, and the tickets of sales that queue their buyers."""

from functools import cache
from typing import Final

from django.conf import settings
from django.core.validators import RegexValidator
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.orders.api.rendering import order_json
from apps.orders.api.serializers import SKU_PATTERN, OrderSerializer
from apps.orders.services.flash_queue import buy_in_sale, ticket_view
from apps.orders.types import FlashOrderRequest
from apps.promotions.services import ticket_text
from apps.promotions.types import QueuePlace
from apps.users.api.authentication import current_shopper
from apps.users.api.permissions import IsShopper
from infra.api.serializers import IdField, StrictCharField, StrictIntegerField, StrictSerializer
from infra.api.views import ApiView, parse_id
from infra.errors import Code
from infra.idempotency.keys import REPLAYED_HEADER, read_key, request_key
from infra.idempotency.schema import REQUIRED_KEY, replayed_header

TOKEN_HEADER: Final = "Purchase-Token"  # noqa: S105 - the name of a header
_SALE_ID: Final = OpenApiParameter(
    "sale_id", OpenApiTypes.STR, OpenApiParameter.PATH, pattern="^[1-9][0-9]{0,18}$", description="The sale's id."
)
_TOKEN: Final = OpenApiParameter(
    TOKEN_HEADER,
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="From POST /flash-sales/{id}/entry; needed where the sale says `token_required`.",
)
_LOCATION: Final = OpenApiParameter(
    "Location", OpenApiTypes.STR, OpenApiParameter.HEADER, response=[201], description="Where the order is."
)


class FlashOrderSerializer(StrictSerializer):
    """The body of POST /flash-sales/{id}/orders."""

    sku = StrictCharField(max_length=64, validators=[RegexValidator(SKU_PATTERN, code="invalid")])
    quantity = StrictIntegerField(min_value=1, max_value=settings.ORDER_MAX_QUANTITY)
    address_id = IdField()


class QueuedSerializer(serializers.Serializer[object]):
    """A place in the queue of a sale."""

    ticket = serializers.CharField()
    position = serializers.IntegerField(min_value=1)


class TicketSerializer(serializers.Serializer[object]):
    """Where a ticket stands."""

    status = serializers.ChoiceField(choices=["waiting", "ordered", "refused"])
    position = serializers.IntegerField(min_value=1, required=False)
    order_id = serializers.CharField(required=False)
    code = serializers.ChoiceField(choices=[code.value for code in Code], required=False)


class FlashOrdersView(ApiView):
    """Orders of a sale."""

    permission_classes = [IsShopper]

    @extend_schema(
        operation_id="flash_sales_buy",
        summary="Buy in a flash sale",
        parameters=[_SALE_ID, REQUIRED_KEY, _TOKEN, _LOCATION, replayed_header(201)],
        request=FlashOrderSerializer,
        responses={
            201: OpenApiResponse(OrderSerializer, description="A direct sale: the order, as it was placed."),
            202: OpenApiResponse(
                QueuedSerializer, description="A queued sale: the ticket, and its place in the queue."
            ),
        },
    )
    def post(self, request: Request, sale_id: str) -> Response:
        """Buy, or return the order that this key has placed, or the ticket that it has drawn."""
        shopper = current_shopper(request)
        key = read_key(request.headers, required=True)
        wanted = _reader().run_validation(request.data)
        bought = buy_in_sale(
            FlashOrderRequest(
                key=request_key(
                    user_id=shopper.user_id, method="POST", path=request.path, key=str(key), body=request.data
                ),
                sale_id=parse_id(sale_id, what="sale"),
                sku=wanted["sku"],
                quantity=wanted["quantity"],
                address_id=wanted["address_id"],
                token=request.headers.get(TOKEN_HEADER),
                exempt=shopper.exempt,
            ),
            now=timezone.now(),
        )
        if isinstance(bought, QueuePlace):
            replayed = {} if bought.is_new else {REPLAYED_HEADER: "true"}
            answer = {"ticket": ticket_text(bought.ticket), "position": bought.position}
            return Response(answer, status=202, headers=replayed)
        replayed = {REPLAYED_HEADER: "true"} if bought.replayed else {}
        headers = {"Location": f"/api/v1/orders/{bought.order.id}", **replayed}
        return Response(order_json(bought.order), status=201, headers=headers)


class FlashTicketView(ApiView):
    """A ticket of a queued sale."""

    permission_classes = [IsShopper]

    @extend_schema(
        operation_id="flash_sales_ticket",
        summary="Ask what has become of a ticket",
        parameters=[OpenApiParameter("ticket", OpenApiTypes.STR, OpenApiParameter.PATH)],
        responses={200: TicketSerializer},
    )
    def get(self, request: Request, ticket: str) -> Response:
        """Return whether the ticket waits, and where, or how it ended."""
        view = ticket_view(ticket, user_id=current_shopper(request).user_id, now=timezone.now())
        answer: dict[str, object] = {"status": view.status}
        if view.position is not None:
            answer["position"] = view.position
        if view.order_id is not None:
            answer["order_id"] = str(view.order_id)
        if view.code:
            answer["code"] = view.code
        return Response(answer)


@cache
def _reader() -> FlashOrderSerializer:
    """Return the one serializer that reads all orders: validating leaves no trace in it, and making it costs much."""
    return FlashOrderSerializer()
