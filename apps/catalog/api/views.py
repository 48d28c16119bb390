"""Categories and products in Django's URLs, and what the schema says of them; reads.py answers."""

from drf_spectacular.utils import OpenApiParameter, extend_schema

from apps.catalog.api import reads
from apps.catalog.api.serializers import (
    CategoryListSerializer,
    ProductListSerializer,
    ProductQuery,
    ProductSerializer,
)
from infra.api.lane_views import LaneReadView
from infra.api.schema import NOT_MODIFIED, TAG_HEADERS


@extend_schema(
    operation_id="categories_list",
    summary="List all categories",
    responses={200: CategoryListSerializer, 304: NOT_MODIFIED},
    parameters=TAG_HEADERS,
)
class CategoryList(LaneReadView):
    """GET /categories."""

    endpoint = reads.categories


@extend_schema(
    operation_id="products_list",
    summary="List products on sale, newest first, of a category or found by their words",
    responses={200: ProductListSerializer, 304: NOT_MODIFIED},
    parameters=[ProductQuery, *TAG_HEADERS],
)
class ProductList(LaneReadView):
    """GET /products."""

    endpoint = reads.products


@extend_schema(
    operation_id="products_retrieve",
    summary="Show a product with what can be bought of each of its SKUs",
    responses={200: ProductSerializer, 304: NOT_MODIFIED},
    parameters=[OpenApiParameter("product_id", str, OpenApiParameter.PATH), *TAG_HEADERS],
)
class ProductDetail(LaneReadView):
    """GET /products/{product_id}."""

    endpoint = reads.product
