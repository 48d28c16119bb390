"""The schema and its Swagger UI: whatever a client accepts, and OPTIONS as everywhere."""

from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerView

from infra.api.views import BareOptionsView, JsonNegotiation


class SchemaView(BareOptionsView, SpectacularJSONAPIView):
    """GET /api/schema: the OpenAPI document, as JSON."""

    content_negotiation_class = JsonNegotiation


class DocsView(BareOptionsView, SpectacularSwaggerView):
    """GET /api/docs: the schema to try out, as a page."""

    content_negotiation_class = JsonNegotiation
