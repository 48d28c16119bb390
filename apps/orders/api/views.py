"""Endpoints of orders: place, list, search, show, events, cancel."""

from typing import Any, Final

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response

from apps.orders import selectors
from apps.orders.api.placing import place
from apps.orders.api.rendering import order_event_json, order_json
from apps.orders.api.serializers import (
    CancelOrderSerializer,
    OrderEventListSerializer,
    OrderListQuery,
    OrderPageSerializer,
    OrderSearchQuery,
    OrderSerializer,
    PlaceOrderSerializer,
)
from apps.orders.domain import OrderStatus
from apps.orders.services.cancellation import cancel_order
from apps.orders.types import OrderFilter
from apps.users.api.authentication import current_shopper
from apps.users.api.permissions import IsShopper
from infra.api.lane_views import LanePostView
from infra.api.pagination import DEFAULT_LIMIT, MAX_LIMIT, CursorCodec
from infra.api.views import ApiView, parse_id
from infra.idempotency.api import IdempotentMixin
from infra.idempotency.schema import OPTIONAL_KEY, REQUIRED_KEY, replayed_header

ORDER_ID: Final = OpenApiParameter(
    "order_id", OpenApiTypes.STR, OpenApiParameter.PATH, pattern="^[1-9][0-9]{0,18}$", description="The order's id."
)
_LIST_PARAMETERS: Final = [
    OpenApiParameter("status", OpenApiTypes.STR, enum=[word.value for word in OrderStatus]),
    OpenApiParameter("from", OpenApiTypes.DATETIME, description="Placed at this time or later."),
    OpenApiParameter("to", OpenApiTypes.DATETIME, description="Placed before this time."),
    OpenApiParameter("limit", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}),
    OpenApiParameter("cursor", {"type": "string", "minLength": 1, "maxLength": 1000}),
]
_LOCATION: Final = OpenApiParameter(
    "Location", OpenApiTypes.STR, OpenApiParameter.HEADER, response=[201], description="Where the order is."
)


class OrdersView(LanePostView):
    """A shopper's orders."""

    permission_classes = [IsShopper]
    endpoint = place

    @extend_schema(
        operation_id="orders_list",
        summary="List one's orders, newest first",
        parameters=_LIST_PARAMETERS,
        responses={200: OrderPageSerializer},
    )
    def get(self, request: Request) -> Response:
        """Return a page of the shopper's orders."""
        return _page(request, OrderListQuery.read(request.query_params))

    @extend_schema(
        operation_id="orders_place",
        summary="Place an order",
        parameters=[REQUIRED_KEY, _LOCATION, replayed_header(201)],
        request=PlaceOrderSerializer,
        responses={201: OpenApiResponse(OrderSerializer, description="The order, as it was placed.")},
    )
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Stand for the endpoint in the schema."""
        return super().post(request, *args, **kwargs)


class OrderSearchView(ApiView):
    """Search in a shopper's orders."""

    permission_classes = [IsShopper]

    @extend_schema(
        operation_id="orders_search",
        summary="Search one's orders by product text, number and city",
        parameters=[
            OpenApiParameter("q", {"type": "string", "minLength": 1, "maxLength": 100}, required=True),
            *_LIST_PARAMETERS,
        ],
        responses={200: OrderPageSerializer},
    )
    def get(self, request: Request) -> Response:
        """Return a page of the orders that match."""
        return _page(request, OrderSearchQuery.read(request.query_params))


class OrderView(ApiView):
    """One order."""

    permission_classes = [IsShopper]

    @extend_schema(
        operation_id="orders_show", summary="Show an order", parameters=[ORDER_ID], responses={200: OrderSerializer}
    )
    def get(self, request: Request, order_id: str) -> Response:
        """Return the order."""
        order = selectors.get_order(user_id=current_shopper(request).user_id, order_id=parse_id(order_id, what="order"))
        return Response(order_json(order))


class OrderEventsView(ApiView):
    """What has happened to an order."""

    permission_classes = [IsShopper]

    @extend_schema(
        operation_id="orders_events",
        summary="List what has happened to an order, oldest first",
        parameters=[ORDER_ID],
        responses={200: OrderEventListSerializer},
    )
    def get(self, request: Request, order_id: str) -> Response:
        """Return all steps of the order's life."""
        events = selectors.order_events(
            user_id=current_shopper(request).user_id, order_id=parse_id(order_id, what="order")
        )
        return Response({"results": [order_event_json(event) for event in events], "next": None})


@extend_schema_view(
    post=extend_schema(
        operation_id="orders_cancel",
        summary="Cancel an order",
        parameters=[ORDER_ID, OPTIONAL_KEY, replayed_header(200)],
        request=CancelOrderSerializer,
        responses={200: OpenApiResponse(OrderSerializer, description="The order, cancelled or being refunded.")},
    )
)
class CancelOrderView(IdempotentMixin, ApiView):
    """Cancelling an order."""

    permission_classes = [IsShopper]

    def post_once(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Cancel the order, or return it if it has been."""
        serializer = CancelOrderSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        order = cancel_order(
            user_id=current_shopper(request).user_id,
            order_id=parse_id(kwargs["order_id"], what="order"),
            reason=serializer.validated_data.get("reason", ""),
            now=timezone.now(),
        )
        return Response(order_json(order))


def _page(request: Request, query: dict[str, Any]) -> Response:
    """Return a page of the list that the query asks for, bound by its cursor to user, path and filters."""
    narrowed = OrderFilter(
        status=query.get("status"), placed_from=query.get("from"), placed_to=query.get("to"), text=query.get("q")
    )
    user_id = current_shopper(request).user_id
    codec = CursorCodec(user_id, request.path, narrowed)
    key = codec.decode(query.get("cursor"))
    page = selectors.list_orders(
        user_id=user_id, narrowed=narrowed, limit=query["limit"], before_id=None if key is None else int(key[0])
    )
    return Response({"results": [order_json(order) for order in page.rows], "next": codec.encode(page.next_key)})
