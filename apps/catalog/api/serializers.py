"""What the catalog's endpoints take and answer, as the schema tells it."""

from rest_framework import serializers

from infra.api.pagination import PageQuery
from infra.api.serializers import QuerySerializer, StrictCharField


class ProductQuery(QuerySerializer, PageQuery):
    """Filters and page of the list of products."""

    category = StrictCharField(max_length=40, required=False, help_text="The slug of a category.")
    q = StrictCharField(min_length=1, max_length=100, required=False, help_text="Words, or the beginnings of words.")


class CategorySerializer(serializers.Serializer[object]):
    """A category."""

    slug = serializers.CharField()
    name = serializers.CharField()


class CategoryListSerializer(serializers.Serializer[object]):
    """All categories, on one page."""

    results = CategorySerializer(many=True)
    next = serializers.CharField(allow_null=True)


class SkuSerializer(serializers.Serializer[object]):
    """A sellable variant of a product."""

    sku = serializers.CharField()
    name = serializers.CharField()
    price = serializers.CharField(help_text="Tax included, as a decimal string.")
    currency = serializers.CharField()
    available = serializers.IntegerField(min_value=0, help_text="Units that can be bought, at most 5 s old.")


class ProductSerializer(serializers.Serializer[object]):
    """A product."""

    id = serializers.CharField()
    title = serializers.CharField()
    description = serializers.CharField()
    category = serializers.CharField(help_text="The slug of its category.")
    skus = SkuSerializer(many=True)


class ProductListSerializer(serializers.Serializer[object]):
    """A page of products."""

    results = ProductSerializer(many=True)
    next = serializers.CharField(allow_null=True)
