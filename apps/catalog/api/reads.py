"""GET of products and categories, the hottest reads: functions of the fast lane (infra/http/lane.py).

Answered from bytes that the worker keeps, tagged by their content.
"""

from django.conf import settings
from django.http import QueryDict

from apps.catalog import selectors
from apps.catalog.api.serializers import ProductQuery
from apps.catalog.types import CachedBody, ProductFilter
from infra.api.conditional import conditional_answer
from infra.api.pagination import DEFAULT_LIMIT, CursorCodec
from infra.api.views import parse_id
from infra.errors import NotFound
from infra.http.messages import LaneRequest, LaneResponse


def categories(request: LaneRequest) -> LaneResponse:
    """List all categories."""
    return _answer(request, selectors.categories())


def products(request: LaneRequest) -> LaneResponse:
    """List products on sale, newest first, of a category or found by their words."""
    narrow, cursor, limit = ProductFilter(category="", text=""), None, DEFAULT_LIMIT
    if request.query:
        query = ProductQuery.read(QueryDict(request.query))
        narrow = ProductFilter(category=query.get("category", ""), text=query.get("q", ""))
        cursor, limit = query.get("cursor"), query["limit"]
    codec = CursorCodec("products", narrow.category, narrow.text)
    key = codec.decode(cursor)
    page = selectors.find_products(narrow, before=int(key[0]) if key else None, limit=limit)
    following = codec.encode([page.next_before] if page.next_before is not None else None)
    return _answer(request, selectors.page_body(page, cursor=following))


def product(request: LaneRequest) -> LaneResponse:
    """Show a product with what can be bought of each of its SKUs."""
    found = selectors.product(parse_id(request.path.rpartition("/")[2], what="product"))
    if found is None:
        raise NotFound("There is no such product.")
    return _answer(request, found)


def _answer(request: LaneRequest, cached: CachedBody) -> LaneResponse:
    return conditional_answer(request, body=cached.body, etag=cached.etag, max_age_s=settings.CATALOG_MAX_AGE_S)
