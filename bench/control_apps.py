"""The control lines of every bench: what the same machine does when it does nothing.

`bare` is C1, a WSGI answer of fixed bytes; `django_view` is the smallest Django view. Both are run by a stock
`gunicorn -k gevent` with as many workers as the product and take the very requests that the product takes.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import re_path

BODY = json.dumps(
    {"id": "1" * 18, "status": "pending_payment", "currency": "GBP", "total": "12.34", "padding": "x" * 700}
).encode()


def bare(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Read the body and answer 201 with fixed bytes."""
    environ["wsgi.input"].read()
    start_response("201 Created", [("Content-Type", "application/json"), ("Content-Length", str(len(BODY)))])
    return [BODY]


def _view(request: HttpRequest) -> HttpResponse:
    _ = request.body
    return HttpResponse(BODY, status=201, content_type="application/json")


urlpatterns = [re_path(r"", _view)]


def django_view(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer through Django's handler with no middleware."""
    if not settings.configured:
        settings.configure(SECRET_KEY="control", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], MIDDLEWARE=[])
    global _application  # noqa: PLW0603  # made once a process, after the fork
    if _application is None:
        _application = get_wsgi_application()
    return _application(environ, start_response)


_application: Callable[..., Iterable[bytes]] | None = None
