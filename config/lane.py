"""The endpoints that the lean worker answers ahead of Django, and the application that carries them to it."""

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler

from apps.catalog.api import reads
from apps.orders.api.buying import buy
from apps.orders.api.placing import place
from apps.promotions.api import reads as flash_reads
from infra.http.lane import LaneRoutes


def make_fast_lane() -> LaneRoutes:
    """Return the lane of the public API, empty where it is off; with CORS, requests of other origins are Django's."""
    lane = LaneRoutes(declines_header=b"origin" if settings.CORS_ALLOWED_ORIGINS else None)
    if not settings.FAST_LANE:
        return lane
    lane.add(["POST"], "/api/v1/orders", place, route="api/v1/orders")
    lane.add(["GET", "HEAD"], "/api/v1/products", reads.products, route="api/v1/products")
    lane.add(["GET", "HEAD"], "/api/v1/products/*", reads.product, route="api/v1/products/<str:product_id>")
    lane.add(["GET", "HEAD"], "/api/v1/flash-sales", flash_reads.sales, route="api/v1/flash-sales")
    lane.add(["GET", "HEAD"], "/api/v1/flash-sales/*", flash_reads.sale, route="api/v1/flash-sales/<str:sale_id>")
    lane.add(["POST"], "/api/v1/flash-sales/*/orders", buy, route="api/v1/flash-sales/<str:sale_id>/orders")
    return lane


class LaneApplication:
    """Django's WSGI application with the fast lane beside it, for servers that know of it (infra/http/worker.py)."""

    def __init__(self, application: WSGIHandler) -> None:
        self._application = application
        self.fast_lane = make_fast_lane()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer through Django."""
        return self._application(environ, start_response)
