"""The fast lane: hot endpoints as functions over a tiny request and response, without Django's handler around them.

An endpoint is written once and reached in two ways. The lean worker dispatches it ahead of Django (`LaneRoutes`), which
spares a request the handler, the middleware and DRF. Django's URLs mount the same function (`answer_through_django`):
that is the way under the stock worker, `runserver` and the test client, and what the schema describes.
"""

import time
from collections.abc import Callable, Sequence

from django.http import HttpRequest, HttpResponse
from prometheus_client import Counter, Histogram

from infra.api.client_address import client_address
from infra.api.problems import PROBLEM_MEDIA_TYPE, as_domain_error, problem_bytes, problem_headers
from infra.errors import DomainError, UnsupportedMediaType
from infra.http.messages import Endpoint, LaneRequest, LaneResponse
from infra.mysql.requests import end_request
from infra.observability.metrics import REQUEST_SECONDS, REQUESTS
from infra.observability.scope import begin_scope, end_scope
from infra.ratelimit.limits import route_name
from infra.ratelimit.services import IN_FLIGHT_REQUESTS, check
from infra.ratelimit.waiting import check_wait

HotEndpoint = Callable[[LaneRequest], LaneResponse]
"""What is written for the lane: answers, or raises what is told as a problem."""


class LaneRoutes:
    """The endpoints that are answered ahead of Django, by method and path.

    `declines_header` names a header whose bearer is left to Django (`origin`, where CORS is on).
    """

    def __init__(self, *, declines_header: bytes | None = None) -> None:
        self._declines_header = declines_header
        # By method, path before the variable segment and path after it; whole paths have neither segment nor rest.
        self._endpoints: dict[tuple[str, str, str | None], Endpoint] = {}

    def add(self, methods: Sequence[str], path: str, endpoint: HotEndpoint, *, route: str) -> None:
        """Serve a path, in which `*` stands for one of the last two segments; `route` is Django's name for it."""
        before, star, after = path.partition("*")
        for method in methods:
            served = _Served(method, route, endpoint, self._declines_header)
            self._endpoints[method, before, after if star else None] = served

    def match(self, method: str, path: str) -> Endpoint | None:
        """Return what serves the path, or None where Django does."""
        found = self._endpoints.get((method, path, None))
        if found is not None:
            return found
        parent, _, last = path.rpartition("/")
        found = self._endpoints.get((method, parent + "/", "")) if last else None
        if found is not None:
            return found
        grandparent, _, middle = parent.rpartition("/")
        return self._endpoints.get((method, grandparent + "/", "/" + last)) if middle else None


class _Served:
    """An endpoint with what surrounds every request: its scope, its problem answers, its metrics, its end."""

    def __init__(self, method: str, route: str, endpoint: HotEndpoint, declines_header: bytes | None) -> None:
        self._method = method
        self._route = route
        self._limit = route_name(method, route)
        self._endpoint = endpoint
        self._declines_header = declines_header
        self._counters: dict[int, Counter] = {}
        self._seconds: Histogram | None = None

    def __call__(self, request: LaneRequest) -> LaneResponse | None:
        if self._declines_header is not None and self._declines_header in request.headers:
            return None
        began_s = time.perf_counter()
        given_id = request.headers.get(b"x-request-id")
        scope = begin_scope(request_id=None if given_id is None else given_id.decode("latin-1"))
        try:
            try:
                response = self._within_limits(request)
            except Exception as error:  # noqa: BLE001 - told to the client as a problem, and logged if unexpected
                response = problem_answer(as_domain_error(error))
            response.headers.append((b"X-Request-Id", scope.request_id.encode("ascii")))
            self._count(response.status, time.perf_counter() - began_s)
            return response
        finally:
            end_request()
            end_scope()

    def _within_limits(self, request: LaneRequest) -> LaneResponse:
        """Do what the middleware of limits does; a shopper's own limit is asked for by the endpoint that knows them."""
        IN_FLIGHT_REQUESTS.enter()
        try:
            check_wait(peer=request.peer, started=text_header(request, b"x-request-start"))
            check(route=self._limit, address=request_address(request))
            return self._endpoint(request)
        finally:
            IN_FLIGHT_REQUESTS.leave()

    def _count(self, status: int, seconds: float) -> None:
        counter = self._counters.get(status)
        if counter is None:
            counter = self._counters[status] = REQUESTS.labels(self._method, self._route, str(status))
        counter.inc()
        if self._seconds is None:
            self._seconds = REQUEST_SECONDS.labels(self._route)
        self._seconds.observe(seconds)


def answer_through_django(endpoint: HotEndpoint, request: HttpRequest) -> HttpResponse:
    """Answer a request that came through Django by a lane's endpoint; what it raises is for the problem middleware."""
    response = endpoint(lane_request(request))
    answer = HttpResponse(b"" if request.method == "HEAD" else response.body, status=response.status)
    del answer.headers["Content-Type"]
    for name, value in response.headers:
        answer.headers[name.decode("latin-1")] = value.decode("latin-1")
    if response.status != 304:
        answer.headers["Content-Length"] = str(len(response.body))
    return answer


def lane_request(request: HttpRequest) -> LaneRequest:
    """Return a request that came through Django as the lane has it; reads the body."""
    return LaneRequest(
        method=request.method or "GET",
        path=request.META.get("PATH_INFO", ""),
        query=request.META.get("QUERY_STRING", "").encode("latin-1"),
        headers={name.lower().encode("latin-1"): value.encode("latin-1") for name, value in request.headers.items()},
        body=request.body,
        peer=request.META.get("REMOTE_ADDR", ""),
    )


def text_header(request: LaneRequest, name: bytes) -> str | None:
    """Return a header as text, as WSGI decodes it, or None where it was not sent."""
    value = request.headers.get(name)
    return None if value is None else value.decode("latin-1")


def request_address(request: LaneRequest) -> str:
    """Return the client's address, as `client_address` finds it."""
    forwarded_for = text_header(request, b"x-forwarded-for") or ""
    return client_address({"REMOTE_ADDR": request.peer, "HTTP_X_FORWARDED_FOR": forwarded_for})


def require_json(request: LaneRequest) -> None:
    """Raise UnsupportedMediaType for a body that does not say that it is JSON."""
    if not request.body:
        return
    media_type = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media_type != b"application/json":
        raise UnsupportedMediaType("Send the body as application/json.")


def problem_answer(error: DomainError) -> LaneResponse:
    """Render a problem."""
    headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in problem_headers(error).items()]
    headers.append((b"Content-Type", PROBLEM_MEDIA_TYPE.encode("ascii")))
    return LaneResponse(error.status, headers, problem_bytes(error))
