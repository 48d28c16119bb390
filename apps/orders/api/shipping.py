"""Endpoints of shipments: where an order's goods are, their receipt, and the carriers' track events."""

from typing import Any, Final

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.orders.api.rendering import order_json
from apps.orders.api.serializers import OrderSerializer
from apps.orders.api.views import ORDER_ID
from apps.orders.fulfillment import TRACKED, ShipmentStatus
from apps.orders.services.receipt import confirm_receipt
from apps.orders.services.tracking import receive_track_event
from apps.orders.shipment_selectors import own_shipments
from apps.orders.types import ShipmentView
from apps.users.api.authentication import current_shopper
from apps.users.api.permissions import IsShopper
from infra.api.rendering import rfc3339
from infra.api.serializers import StrictSerializer
from infra.api.views import ApiView, parse_id
from infra.idempotency.api import IdempotentMixin
from infra.idempotency.schema import OPTIONAL_KEY, replayed_header

_SHOWN: Final = [status.value for status in ShipmentStatus if status != ShipmentStatus.CANCELLED]


class ShippedItemSerializer(serializers.Serializer[Any]):
    """So many units of one SKU in a shipment."""

    sku = serializers.CharField()
    quantity = serializers.IntegerField(min_value=1)


class TrackSerializer(serializers.Serializer[Any]):
    """A step of a shipment's way, as its carrier told it."""

    at = serializers.DateTimeField()
    status = serializers.ChoiceField(choices=sorted(TRACKED))
    place = serializers.CharField(allow_blank=True)


class ShipmentSerializer(serializers.Serializer[Any]):
    """A shipment; it has a tracking number once its carrier has given it one."""

    shipment_id = serializers.CharField()
    order_id = serializers.CharField()
    carrier = serializers.CharField(allow_null=True)
    number = serializers.CharField(allow_null=True)
    status = serializers.ChoiceField(choices=_SHOWN)
    items = ShippedItemSerializer(many=True)
    track = TrackSerializer(many=True)
    handed_over_at = serializers.DateTimeField(allow_null=True)
    delivered_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class ShipmentListSerializer(serializers.Serializer[Any]):
    """All shipments of an order, oldest first; they are few, so there is no next page."""

    results = ShipmentSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class ConfirmReceiptSerializer(StrictSerializer):
    """The body of POST /orders/{id}/confirm-receipt: nothing."""


class TrackReceivedSerializer(serializers.Serializer[Any]):
    """The success answer to a track event."""

    received = serializers.BooleanField()


class ShipmentsView(ApiView):
    """The shipments of an order."""

    permission_classes = [IsShopper]

    @extend_schema(
        operation_id="orders_shipments_list",
        summary="List the shipments of an order, oldest first",
        parameters=[ORDER_ID],
        responses={200: ShipmentListSerializer},
    )
    def get(self, request: Request, order_id: str) -> Response:
        """Return all shipments with their tracks."""
        shipments = own_shipments(user_id=current_shopper(request).user_id, order_id=parse_id(order_id, what="order"))
        return Response({"results": [shipment_json(shipment) for shipment in shipments], "next": None})


@extend_schema_view(
    post=extend_schema(
        operation_id="orders_confirm_receipt",
        summary="Confirm that an order has arrived",
        description="For an order that was shipped whole: it is completed then. Again: the same answer.",
        parameters=[ORDER_ID, OPTIONAL_KEY, replayed_header(200)],
        request=ConfirmReceiptSerializer,
        responses={200: OpenApiResponse(OrderSerializer, description="The order, completed.")},
    )
)
class ConfirmReceiptView(IdempotentMixin, ApiView):
    """The shopper's word that an order has arrived."""

    permission_classes = [IsShopper]

    def post_once(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Complete the order, or return it if it is."""
        ConfirmReceiptSerializer(data=request.data).is_valid(raise_exception=True)
        order = confirm_receipt(
            user_id=current_shopper(request).user_id,
            order_id=parse_id(kwargs["order_id"], what="order"),
            now=timezone.now(),
        )
        return Response(order_json(order))


class TrackCallbackView(ApiView):
    """Where carriers deliver track events, in their own formats; whoever signs is let in."""

    authentication_classes = []
    permission_classes = [AllowAny]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Let any media type in: what counts is the signature over the bytes."""
        APIView.initial(self, request, *args, **kwargs)

    @extend_schema(
        operation_id="shipments_callback",
        summary="Deliver a carrier's track event",
        description="In the carrier's own format, signed as the carrier signs. Answered once it is stored durably.",
        parameters=[OpenApiParameter("carrier", {"type": "string"}, OpenApiParameter.PATH)],
        request={"*/*": {"type": "string", "format": "binary", "maxLength": 262144}},
        responses={200: TrackReceivedSerializer},
        auth=[],
    )
    def post(self, request: Request, carrier: str) -> Response:
        """Commit the event with its effect; the same one again has none."""
        raw_body = request.body  # untouched bytes: the signature is over them
        receive_track_event(carrier=carrier, headers=request.headers, raw_body=raw_body, now=timezone.now())
        return Response({"received": True})


def shipment_json(shipment: ShipmentView) -> dict[str, object]:
    """Return the contract's shipment."""
    return {
        "shipment_id": shipment.shipment_id,
        "order_id": str(shipment.order_id),
        "carrier": shipment.carrier or None,
        "number": shipment.number or None,
        "status": str(shipment.status),
        "items": [{"sku": share.sku, "quantity": share.units} for share in shipment.items],
        "track": [{"at": rfc3339(step.at), "status": str(step.status), "place": step.place} for step in shipment.track],
        "handed_over_at": None if shipment.handed_over_at is None else rfc3339(shipment.handed_over_at),
        "delivered_at": None if shipment.delivered_at is None else rfc3339(shipment.delivered_at),
        "created_at": rfc3339(shipment.created_at),
        "updated_at": rfc3339(shipment.updated_at),
    }
