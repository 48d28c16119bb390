"""Base of the DRF views, and the parsing that they share."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar, Final

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from infra.api.fields import id_from_text
from infra.api.problems import MethodNotAllowed, problem_response
from infra.errors import NotFound, UnsupportedMediaType
from infra.ratelimit.services import check_user

_NO_CONTENT: Final = 204
_READING: Final = ("GET", "HEAD", "OPTIONS")


class JsonNegotiation(DefaultContentNegotiation):
    """Answers have one form (JSON, for endpoints) whatever a client says that it accepts, so nothing is weighed."""

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """Return the one renderer."""
        return renderers[0], renderers[0].media_type


class ApiView(APIView):
    """An endpoint of the contract: JSON in, JSON or a problem out, answers to a token are `no-store`."""

    content_negotiation_class = JsonNegotiation
    takes_body_on_delete: ClassVar[bool] = False

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Authenticate, hold the user to their limit, and refuse a body that is not JSON even where none is read.

        Which methods there are is told to everybody: a browser asks for it without a token.
        """
        if request.method == "OPTIONS":
            return
        super().initial(request, *args, **kwargs)
        user: Any = request.user
        if hasattr(user, "user_id"):
            check_user(user.user_id, exempt=user.exempt)
        if request.method in ("POST", "PUT", "PATCH", "DELETE") and _has_body(request):
            media_type = (request.content_type or "").split(";")[0].strip().lower()
            if media_type != "application/json":
                raise UnsupportedMediaType("Send the body as application/json.")

    def options(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:  # type: ignore[override]
        """Say which methods there are; the contract wants no body."""
        return HttpResponse(status=_NO_CONTENT, headers={"Allow": ", ".join(self.allowed_methods)})

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Keep answers to a token out of every cache."""
        response = super().finalize_response(request, response, *args, **kwargs)
        if "HTTP_AUTHORIZATION" in request.META or request.method not in ("GET", "HEAD"):
            response.headers["Cache-Control"] = "no-store"
        return response


def for_reading(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Return the view for GET and HEAD; other methods are answered as the contract has it, whatever the view does."""

    @wraps(view)
    def reading(request: HttpRequest, **captured: str) -> HttpResponseBase:
        if request.method in ("GET", "HEAD"):
            return view(request, **captured)
        if request.method == "OPTIONS":
            return HttpResponse(status=_NO_CONTENT, headers={"Allow": ", ".join(_READING)})
        refusal = problem_response(MethodNotAllowed("This address does not take this method."))
        refusal.headers["Allow"] = ", ".join(_READING)
        return refusal

    return reading


def parse_id(text: str, *, what: str) -> int:
    """Return the id in a path; what cannot be an id is not found."""
    number = id_from_text(text)
    if number is None:
        raise NotFound(f"There is no such {what}.")
    return number


def not_found_view(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer for paths outside the contract (`handler404`)."""
    return problem_response(NotFound("There is nothing at this address."))


def _has_body(request: Request) -> bool:
    length = request.META.get("CONTENT_LENGTH") or "0"
    return length != "0" or "HTTP_TRANSFER_ENCODING" in request.META
