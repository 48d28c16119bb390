"""Endpoints of returns: ask to send goods back, and see what has become of it."""

from typing import Any, Final

from django.conf import settings
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.orders.api.serializers import MAX_REASON_LENGTH, OrderItemSerializer
from apps.orders.api.views import ORDER_ID
from apps.orders.errors import ReturnNotFound
from apps.orders.fulfillment import ReturnStatus, parse_return_id
from apps.orders.return_selectors import own_return, own_returns
from apps.orders.services.returns import request_return
from apps.orders.types import ReturnView
from apps.payments.types import refund_id
from apps.users.api.authentication import current_shopper
from apps.users.api.permissions import IsShopper
from infra.api.rendering import rfc3339
from infra.api.serializers import StrictCharField, StrictSerializer
from infra.api.views import ApiView, parse_id
from infra.idempotency.api import IdempotentMixin
from infra.idempotency.schema import OPTIONAL_KEY, replayed_header


class RequestReturnSerializer(StrictSerializer):
    """The body of POST /orders/{id}/returns."""

    items = serializers.ListField(child=OrderItemSerializer(), min_length=1, max_length=settings.ORDER_MAX_LINES)
    reason = StrictCharField(max_length=MAX_REASON_LENGTH, allow_blank=True, required=False)


class ReturnItemSerializer(serializers.Serializer[Any]):
    """Units of one SKU in a return."""

    sku = serializers.CharField()
    quantity = serializers.IntegerField(min_value=1)
    received_quantity = serializers.IntegerField(min_value=0)


class ReturnSerializer(serializers.Serializer[Any]):
    """Goods on their way back; `refund_id` is the refund that was made when they came."""

    return_id = serializers.CharField()
    order_id = serializers.CharField()
    status = serializers.ChoiceField(choices=[word.value for word in ReturnStatus])
    items = ReturnItemSerializer(many=True)
    reason = serializers.CharField(allow_blank=True)
    note = serializers.CharField(allow_blank=True)
    refund_id = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class ReturnListSerializer(serializers.Serializer[Any]):
    """All returns of an order, oldest first; they are few, so there is no next page."""

    results = ReturnSerializer(many=True)
    next = serializers.CharField(allow_null=True)


_RETURN_ID: Final = OpenApiParameter(
    "return_id", {"type": "string", "pattern": "^ret_[1-9][0-9]{0,18}_[1-9][0-9]{0,3}$"}, OpenApiParameter.PATH
)
_LOCATION: Final = OpenApiParameter(
    "Location", OpenApiTypes.STR, OpenApiParameter.HEADER, response=[201], description="Where the return is."
)


@extend_schema_view(
    post=extend_schema(
        operation_id="orders_returns_request",
        summary="Ask to send goods back",
        description="For what was shipped and arrived lately. The money goes back when the goods are here.",
        parameters=[ORDER_ID, OPTIONAL_KEY, _LOCATION, replayed_header(201)],
        request=RequestReturnSerializer,
        responses={201: OpenApiResponse(ReturnSerializer, description="The return, as it was asked for.")},
    )
)
class ReturnsView(IdempotentMixin, ApiView):
    """The returns of an order."""

    permission_classes = [IsShopper]

    @extend_schema(
        operation_id="orders_returns_list",
        summary="List the returns of an order, oldest first",
        parameters=[ORDER_ID],
        responses={200: ReturnListSerializer},
    )
    def get(self, request: Request, order_id: str) -> Response:
        """Return all returns."""
        returns = own_returns(user_id=current_shopper(request).user_id, order_id=parse_id(order_id, what="order"))
        return Response({"results": [return_json(each) for each in returns], "next": None})

    def post_once(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Ask for a return."""
        serializer = RequestReturnSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        wanted = serializer.validated_data
        asked = request_return(
            user_id=current_shopper(request).user_id,
            order_id=parse_id(kwargs["order_id"], what="order"),
            items=[(item["sku"], item["quantity"]) for item in wanted["items"]],
            reason=wanted.get("reason", ""),
            now=timezone.now(),
        )
        headers = {"Location": f"{request.path}/{asked.return_id}"}
        return Response(return_json(asked), status=201, headers=headers)


class OneReturnView(ApiView):
    """One return of an order."""

    permission_classes = [IsShopper]

    @extend_schema(
        operation_id="orders_returns_show",
        summary="Show a return of an order",
        parameters=[ORDER_ID, _RETURN_ID],
        responses={200: ReturnSerializer},
    )
    def get(self, request: Request, order_id: str, return_id: str) -> Response:
        """Return one return."""
        number = parse_id(order_id, what="order")
        named = parse_return_id(return_id)
        if named is None or named[0] != number:
            raise ReturnNotFound("There is no such return.")
        found = own_return(user_id=current_shopper(request).user_id, order_id=number, n=named[1])
        return Response(return_json(found))


def return_json(found: ReturnView) -> dict[str, object]:
    """Return a return as shoppers see it."""
    return {
        "return_id": found.return_id,
        "order_id": str(found.order_id),
        "status": str(found.status),
        "items": [
            {"sku": item.sku, "quantity": item.quantity, "received_quantity": item.received_quantity}
            for item in found.items
        ],
        "reason": found.reason,
        "note": found.note,
        "refund_id": None if found.refund_n is None else refund_id(found.order_id, found.refund_n),
        "created_at": rfc3339(found.created_at),
        "updated_at": rfc3339(found.updated_at),
    }
