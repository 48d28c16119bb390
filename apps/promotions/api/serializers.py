"""What the endpoints of flash sales take and answer, as the schema tells it."""

from rest_framework import serializers

from apps.promotions.domain import SaleMode
from infra.api.pagination import PageQuery
from infra.api.serializers import QuerySerializer, StrictSerializer

SHOWN_STATES = ("scheduled", "running", "paused", "ended", "cancelled")


class FlashSaleQuery(QuerySerializer, PageQuery):
    """Page of the list of sales."""


class EntrySerializer(StrictSerializer):
    """The body of POST /flash-sales/{id}/entry: nothing."""


class FlashSaleItemSerializer(serializers.Serializer[object]):
    """One SKU of a sale."""

    sku = serializers.CharField()
    title = serializers.CharField()
    price = serializers.CharField(help_text="Tax included, as a decimal string.")
    currency = serializers.CharField(min_length=3, max_length=3)
    quota = serializers.IntegerField(min_value=1)
    left = serializers.IntegerField(min_value=0, help_text="Units that can be bought, at most 5 s old.")
    per_user_limit = serializers.IntegerField(min_value=1)


class FlashSaleSerializer(serializers.Serializer[object]):
    """A flash sale."""

    id = serializers.CharField()
    name = serializers.CharField()
    status = serializers.ChoiceField(choices=SHOWN_STATES)
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()
    server_time = serializers.DateTimeField(help_text="The server's clock when it answered.")
    mode = serializers.ChoiceField(choices=[mode.value for mode in SaleMode])
    token_required = serializers.BooleanField()
    items = FlashSaleItemSerializer(many=True)


class FlashSaleListSerializer(serializers.Serializer[object]):
    """A page of sales."""

    results = FlashSaleSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class PurchaseTokenSerializer(serializers.Serializer[object]):
    """A purchase token, for this shopper and sale."""

    purchase_token = serializers.CharField()
    expires_at = serializers.DateTimeField()
