"""Categories and products in Django's URLs, and what the schema says of them; reads.py answers."""

from collections.abc import Callable
from typing import Any, ClassVar

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from apps.catalog.api import reads
from apps.catalog.api.serializers import (
    CategoryListSerializer,
    ProductListSerializer,
    ProductQuery,
    ProductSerializer,
)
from infra.api.views import ApiView
from infra.http.lane import answer_through_django
from infra.http.messages import LaneRequest, LaneResponse

_NOT_MODIFIED = OpenApiResponse(description="The entity tag sent in `If-None-Match` is still that of the answer.")
_TAG_HEADERS = [
    OpenApiParameter("ETag", str, OpenApiParameter.HEADER, response=[200, 304]),
    OpenApiParameter("Cache-Control", str, OpenApiParameter.HEADER, response=[200, 304]),
]


class CatalogView(ApiView):
    """A public read, answered by an endpoint of the fast lane; DRF answers all other methods."""

    authentication_classes = []
    permission_classes = [AllowAny]
    endpoint: ClassVar[Callable[[LaneRequest], LaneResponse]]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer reads at once; errors are rendered by the problem middleware."""
        if request.method in ("GET", "HEAD"):
            return answer_through_django(type(self).endpoint, request)
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Stand for the endpoint in the schema and among the allowed methods."""
        raise AssertionError("dispatch() answers GET")


@extend_schema(
    operation_id="categories_list",
    summary="List all categories",
    responses={200: CategoryListSerializer, 304: _NOT_MODIFIED},
    parameters=_TAG_HEADERS,
)
class CategoryList(CatalogView):
    """GET /categories."""

    endpoint = reads.categories


@extend_schema(
    operation_id="products_list",
    summary="List products on sale, newest first, of a category or found by their words",
    responses={200: ProductListSerializer, 304: _NOT_MODIFIED},
    parameters=[ProductQuery, *_TAG_HEADERS],
)
class ProductList(CatalogView):
    """GET /products."""

    endpoint = reads.products


@extend_schema(
    operation_id="products_retrieve",
    summary="Show a product with what can be bought of each of its SKUs",
    responses={200: ProductSerializer, 304: _NOT_MODIFIED},
    parameters=[OpenApiParameter("product_id", str, OpenApiParameter.PATH), *_TAG_HEADERS],
)
class ProductDetail(CatalogView):
    """GET /products/{product_id}."""

    endpoint = reads.product
