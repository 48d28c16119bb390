"""Opens and closes the scope of a request, and counts it."""

import time
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from infra.observability.metrics import REQUEST_SECONDS, REQUESTS
from infra.observability.scope import begin_scope, end_scope


class RequestScopeMiddleware:
    """Gives each request its ids, each answer its `X-Request-Id`, and each route its count and duration."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Serve the request inside its scope."""
        started_s = time.perf_counter()
        scope = begin_scope(request_id=request.META.get("HTTP_X_REQUEST_ID"))
        try:
            response = self.get_response(request)
            match = request.resolver_match
            route = match.route if match is not None else "unrouted"
            response.headers["X-Request-Id"] = scope.request_id
            has_body = response.status_code not in _WITHOUT_BODY
            if has_body and isinstance(response, HttpResponse) and "Content-Length" not in response.headers:
                response.headers["Content-Length"] = str(len(response.content))
            method = request.method if request.method in _METHODS else "OTHER"
            REQUESTS.labels(method, route, str(response.status_code)).inc()
            REQUEST_SECONDS.labels(route).observe(time.perf_counter() - started_s)
            return response
        finally:
            end_scope()


_WITHOUT_BODY = frozenset({204, 304})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
