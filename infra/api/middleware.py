"""Turns what fails outside a DRF view into a problem answer."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from infra.api.problems import as_domain_error, problem_response
from infra.errors import BadRequest, PayloadTooLarge


class ProblemMiddleware:
    """Renders exceptions of plain views as problems and refuses bodies that are larger than any endpoint takes."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Serve the request, or refuse it before it is read."""
        length = request.META.get("CONTENT_LENGTH") or "0"
        if not length.isdecimal():
            return problem_response(BadRequest("Content-Length is not a number."))
        if int(length) > settings.MAX_CALLBACK_BYTES:
            return problem_response(PayloadTooLarge("The body is too large."))
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse:
        """Answer for a plain view that raised."""
        return problem_response(as_domain_error(exception))
