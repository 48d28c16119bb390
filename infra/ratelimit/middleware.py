"""Refuses, before anything is done for it, what is over a limit; the limit of a user comes once the user is known."""

from collections.abc import Callable
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from infra.api.client_address import client_address
from infra.api.problems import problem_response
from infra.errors import Overloaded, RateLimited
from infra.ratelimit.limits import route_name
from infra.ratelimit.services import IN_FLIGHT_REQUESTS, check_address, check_route
from infra.ratelimit.waiting import check_wait

_HEALTH: Final = "/healthz/"


class RateLimitMiddleware:
    """Caps what is in flight, refuses what waited too long, asks for the limits of the address and of the route.

    Health checks always pass.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Serve the request, or refuse it."""
        if request.path_info.startswith(_HEALTH):
            return self.get_response(request)
        try:
            IN_FLIGHT_REQUESTS.enter()
        except Overloaded as error:
            return problem_response(error)
        try:
            check_wait(peer=request.META.get("REMOTE_ADDR", ""), started=request.META.get("HTTP_X_REQUEST_START"))
            check_address(client_address(request.META))
            return self.get_response(request)
        except (Overloaded, RateLimited) as error:
            return problem_response(error)
        finally:
            IN_FLIGHT_REQUESTS.leave()

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponse | None:
        """Refuse a request for a route that is asked for too often."""
        match = request.resolver_match
        if match is not None and not request.path_info.startswith(_HEALTH):
            try:
                check_route(route_name(request.method, match.route))
            except RateLimited as error:
                return problem_response(error)
        return None
