"""Categories and products over HTTP: public, cached, tagged.

These are the hottest reads. `GET` and `HEAD` are answered ahead of DRF's machinery, from bytes that the worker keeps;
other methods, and the schema, go through it.
"""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import parse_etags
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.permissions import AllowAny

from apps.catalog import selectors
from apps.catalog.api.serializers import (
    CategoryListSerializer,
    ProductListSerializer,
    ProductQuery,
    ProductSerializer,
)
from apps.catalog.types import CachedBody, ProductFilter
from infra.api.pagination import CursorCodec
from infra.api.views import ApiView, parse_id
from infra.errors import NotFound

_NOT_MODIFIED = OpenApiResponse(description="The entity tag sent in `If-None-Match` is still that of the answer.")
_TAG_HEADERS = [
    OpenApiParameter("ETag", str, OpenApiParameter.HEADER, response=[200, 304]),
    OpenApiParameter("Cache-Control", str, OpenApiParameter.HEADER, response=[200, 304]),
]


class CatalogView(ApiView):
    """A public read: subclasses find the body."""

    authentication_classes = []
    permission_classes = [AllowAny]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer reads at once; errors are rendered by the problem middleware."""
        if request.method in ("GET", "HEAD"):
            return self.get(request, *args, **kwargs)
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Answer from the cache, or that nothing has changed."""
        raise NotImplementedError


class CategoryList(CatalogView):
    """GET /categories."""

    @extend_schema(
        operation_id="categories_list",
        responses={200: CategoryListSerializer, 304: _NOT_MODIFIED},
        parameters=_TAG_HEADERS,
    )
    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """List all categories."""
        return _answer(request, selectors.categories())


class ProductList(CatalogView):
    """GET /products."""

    @extend_schema(
        operation_id="products_list",
        responses={200: ProductListSerializer, 304: _NOT_MODIFIED},
        parameters=[ProductQuery, *_TAG_HEADERS],
    )
    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """List products on sale, newest first, of a category or found by their words."""
        query = ProductQuery.read(request.GET)
        narrow = ProductFilter(category=query.get("category", ""), text=query.get("q", ""))
        codec = CursorCodec("products", narrow.category, narrow.text)
        key = codec.decode(query.get("cursor"))
        page = selectors.find_products(narrow, before=int(key[0]) if key else None, limit=query["limit"])
        return _answer(request, selectors.page_body(page, cursor=_next_cursor(codec, page.next_before)))


class ProductDetail(CatalogView):
    """GET /products/{product_id}."""

    @extend_schema(
        operation_id="products_retrieve",
        responses={200: ProductSerializer, 304: _NOT_MODIFIED},
        parameters=[OpenApiParameter("product_id", str, OpenApiParameter.PATH), *_TAG_HEADERS],
    )
    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show a product with what can be bought of each of its SKUs."""
        product = selectors.product(parse_id(kwargs["product_id"], what="product"))
        if product is None:
            raise NotFound("There is no such product.")
        return _answer(request, product)


def _next_cursor(codec: CursorCodec, before: int | None) -> str | None:
    return codec.encode([before] if before is not None else None)


def _answer(request: HttpRequest, cached: CachedBody) -> HttpResponse:
    """Answer 304 when the client has this very content, else send it (only its length for HEAD)."""
    headers = {"ETag": cached.etag, "Cache-Control": f"public, max-age={settings.CATALOG_MAX_AGE_S}"}
    known = request.META.get("HTTP_IF_NONE_MATCH")
    if known is not None and _matches(known, cached.etag):
        response = HttpResponse(status=304, headers=headers)
        del response.headers["Content-Type"]
        return response
    headers["Content-Length"] = str(len(cached.body))
    body = cached.body if request.method == "GET" else b""
    return HttpResponse(body, content_type="application/json", headers=headers)


def _matches(known: str, etag: str) -> bool:
    """Compare weakly, as RFC 9110 has it for If-None-Match."""
    if known == etag or known.strip() == "*":
        return True
    return etag.removeprefix("W/") in (tag.removeprefix("W/") for tag in parse_etags(known))
