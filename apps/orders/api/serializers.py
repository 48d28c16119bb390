"""What the endpoints of orders take, and the schema of what they answer.

Answers are rendered by plain functions (api/rendering.py); the serializers of answers tell the schema their shape.
"""

from typing import Any, Final

from django.conf import settings
from django.core.validators import RegexValidator
from rest_framework import serializers

from apps.orders.domain import FulfillmentStatus, OrderStatus, PaymentStatus
from apps.orders.pricing import MAX_COUPONS
from infra.api.pagination import PageQuery
from infra.api.serializers import (
    IdField,
    MoneyField,
    QuerySerializer,
    StrictCharField,
    StrictIntegerField,
    StrictSerializer,
    TimeField,
)

SKU_PATTERN: Final = r"^[A-Za-z0-9._-]{1,64}\Z"
MAX_NOTE_LENGTH: Final = 500
MAX_REASON_LENGTH: Final = 255
MAX_POINTS: Final = 10**9


class OrderItemSerializer(StrictSerializer):
    """One line of the request."""

    sku = StrictCharField(max_length=64, validators=[RegexValidator(SKU_PATTERN, code="invalid")])
    quantity = StrictIntegerField(min_value=1, max_value=settings.ORDER_MAX_QUANTITY)


class PlaceOrderSerializer(StrictSerializer):
    """The body of POST /orders."""

    items = serializers.ListField(child=OrderItemSerializer(), min_length=1, max_length=settings.ORDER_MAX_LINES)
    address_id = IdField()
    coupons = serializers.ListField(child=StrictCharField(max_length=64), max_length=MAX_COUPONS, required=False)
    points = StrictIntegerField(min_value=0, max_value=MAX_POINTS, required=False)
    expected_total = MoneyField(required=False)
    note = StrictCharField(max_length=MAX_NOTE_LENGTH, allow_blank=True, required=False)


class CancelOrderSerializer(StrictSerializer):
    """The body of POST /orders/{id}/cancel."""

    reason = StrictCharField(max_length=MAX_REASON_LENGTH, allow_blank=True, required=False)


class OrderListQuery(QuerySerializer, PageQuery):
    """Query parameters of the list: `status`, `from`, `to`, `limit`, `cursor`."""

    status = serializers.ChoiceField(choices=[word.value for word in OrderStatus], required=False)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Add the bounds, whose names are words of Python."""
        return {
            **super().get_fields(),
            "from": TimeField(required=False),
            "to": TimeField(required=False),
        }


class OrderSearchQuery(OrderListQuery):
    """Query parameters of the search: those of the list, and `q`."""

    q = serializers.CharField(min_length=1, max_length=100)


class OrderLineSerializer(serializers.Serializer[Any]):
    """A line of an order."""

    line = serializers.IntegerField(min_value=1)
    sku = serializers.CharField()
    title = serializers.CharField()
    quantity = serializers.IntegerField(min_value=1)
    unit_price = serializers.CharField()
    line_total = serializers.CharField()
    discount = serializers.CharField()
    points_value = serializers.CharField()
    refunded_quantity = serializers.IntegerField(min_value=0)


class OrderAddressSerializer(serializers.Serializer[Any]):
    """The address as it was when the order was placed."""

    name = serializers.CharField(allow_blank=True)
    phone = serializers.CharField(allow_blank=True)
    country = serializers.CharField(allow_blank=True)
    region = serializers.CharField(allow_blank=True)
    city = serializers.CharField(allow_blank=True)
    line1 = serializers.CharField(allow_blank=True)
    line2 = serializers.CharField(allow_blank=True)
    postcode = serializers.CharField(allow_blank=True)


class OrderSerializer(serializers.Serializer[Any]):
    """An order."""

    id = serializers.CharField()
    status = serializers.ChoiceField(choices=[word.value for word in OrderStatus])
    payment_status = serializers.ChoiceField(choices=[word.value for word in PaymentStatus])
    fulfillment_status = serializers.ChoiceField(choices=[word.value for word in FulfillmentStatus])
    currency = serializers.CharField(min_length=3, max_length=3)
    subtotal = serializers.CharField()
    discount = serializers.CharField()
    points_used = serializers.IntegerField(min_value=0)
    points_value = serializers.CharField()
    shipping_fee = serializers.CharField()
    total = serializers.CharField()
    refunded_total = serializers.CharField()
    items = OrderLineSerializer(many=True)
    address = OrderAddressSerializer()
    coupons = serializers.ListField(child=serializers.CharField())
    note = serializers.CharField(allow_blank=True)
    cancel_reason = serializers.CharField(allow_null=True)
    placed_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    paid_at = serializers.DateTimeField(allow_null=True)
    updated_at = serializers.DateTimeField()
    version = serializers.IntegerField(min_value=1)


class OrderPageSerializer(serializers.Serializer[Any]):
    """A page of orders."""

    results = OrderSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class OrderEventSerializer(serializers.Serializer[Any]):
    """A step in an order's life."""

    version = serializers.IntegerField(min_value=1)
    kind = serializers.CharField()
    at = serializers.DateTimeField()
    actor = serializers.CharField()
    detail = serializers.CharField(allow_blank=True)


class OrderEventListSerializer(serializers.Serializer[Any]):
    """All steps of an order, oldest first; they are few, so there is no next page."""

    results = OrderEventSerializer(many=True)
    next = serializers.CharField(allow_null=True)
