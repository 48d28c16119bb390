"""POST /orders/quote: what an order would cost."""

from typing import Any

import msgspec
from django.utils import timezone
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.orders.api.serializers import OrderLineSerializer, PlaceOrderSerializer
from apps.orders.pricing import WhyNot
from apps.orders.services.quoting import quote_order
from apps.orders.types import QuoteRequest
from apps.users.api.authentication import current_shopper
from apps.users.api.permissions import IsShopper
from infra.api.serializers import IdField
from infra.api.views import ApiView
from infra.idempotency.api import IdempotentMixin
from infra.idempotency.schema import OPTIONAL_KEY, replayed_header


class QuoteOrderSerializer(PlaceOrderSerializer):
    """The body of POST /orders/quote: that of placing, in which the address may be missing.

    `note` and `expected_total` are taken and change nothing.
    """

    address_id = IdField(required=False)


class CouponQuoteSerializer(serializers.Serializer[Any]):
    """What a coupon that was named does for the order, or why it does not apply."""

    coupon_id = serializers.CharField()
    applicable = serializers.BooleanField()
    discount = serializers.CharField(help_text="What it takes off the goods; free shipping shows in `shipping_fee`.")
    reason = serializers.ChoiceField(choices=[why.value for why in WhyNot], allow_null=True)
    detail = serializers.CharField(allow_null=True)


class SuggestionSerializer(serializers.Serializer[Any]):
    """The coupons of the shopper that would save most, and what the order would cost with them alone."""

    coupons = serializers.ListField(child=serializers.CharField())
    discount = serializers.CharField()
    shipping_fee = serializers.CharField()
    total = serializers.CharField()


class QuoteSerializer(serializers.Serializer[Any]):
    """What an order would cost with those of its coupons that apply."""

    currency = serializers.CharField(min_length=3, max_length=3)
    subtotal = serializers.CharField()
    discount = serializers.CharField()
    points_used = serializers.IntegerField(min_value=0)
    points_value = serializers.CharField()
    shipping_fee = serializers.CharField()
    total = serializers.CharField()
    items = OrderLineSerializer(many=True)
    coupons = CouponQuoteSerializer(many=True)
    suggested = SuggestionSerializer()


@extend_schema_view(
    post=extend_schema(
        operation_id="orders_quote",
        summary="Tell what an order would cost, and why a coupon does not apply",
        parameters=[OPTIONAL_KEY, replayed_header(200)],
        request=QuoteOrderSerializer,
        responses={200: OpenApiResponse(QuoteSerializer, description="By the rules of placing; nothing is held.")},
    )
)
class QuoteView(IdempotentMixin, ApiView):
    """POST /orders/quote."""

    permission_classes = [IsShopper]

    def post_once(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Price what placing the same body would place."""
        serializer = QuoteOrderSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        wanted = serializer.validated_data
        quote = quote_order(
            QuoteRequest(
                user_id=current_shopper(request).user_id,
                items=tuple((item["sku"], item["quantity"]) for item in wanted["items"]),
                coupons=tuple(wanted.get("coupons", ())),
                points=wanted.get("points", 0),
                address_id=wanted.get("address_id"),
            ),
            now=timezone.now(),
        )
        return Response(msgspec.to_builtins(quote))
