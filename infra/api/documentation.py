"""The schema and its Swagger UI, in the one form that each has, whatever a client says that it accepts."""

from pathlib import Path
from typing import Final

import drf_spectacular_sidecar
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views.static import serve
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerView

from infra.api.views import JsonNegotiation

_PARTS: Final = Path(drf_spectacular_sidecar.__file__).parent / "static" / "drf_spectacular_sidecar"


class SchemaView(SpectacularJSONAPIView):
    """GET /api/schema: the OpenAPI document, as JSON."""

    content_negotiation_class = JsonNegotiation


class DocsView(SpectacularSwaggerView):
    """GET /api/docs: the schema to try out, as a page."""

    content_negotiation_class = JsonNegotiation


def docs_part(request: HttpRequest, path: str) -> HttpResponseBase:
    """Send a script, style or picture of the page, from the package that ships them; raises Http404 for others.

    The public port has no other files to send, so it needs nothing that serves folders.
    """
    return serve(request, path, document_root=str(_PARTS))
