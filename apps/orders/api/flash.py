"""Buying in a flash sale, in Django's URLs, and the tickets of sales that queue buyers; buying.py answers POST."""

from typing import Any, Final

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.orders.api.buying import TOKEN_HEADER, FlashOrderSerializer, buy
from apps.orders.api.serializers import OrderSerializer
from apps.orders.services.flash_queue import ticket_view
from apps.users.api.authentication import current_shopper
from apps.users.api.permissions import IsShopper
from infra.api.lane_views import LanePostView
from infra.api.views import ApiView
from infra.errors import Code
from infra.idempotency.schema import REQUIRED_KEY, replayed_header

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


class FlashOrdersView(LanePostView):
    """Orders of a sale."""

    permission_classes = [IsShopper]
    endpoint = buy

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
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Stand for the endpoint in the schema."""
        return super().post(request, *args, **kwargs)


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
