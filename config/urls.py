"""Public addresses: the API, its schema and the health checks."""

from django.urls import include, path

from infra.api.documentation import DocsView, SchemaView, docs_part
from infra.api.views import for_reading
from infra.observability.health import live, ready

handler404 = "infra.api.views.not_found_view"

# Tried in this order: the most frequent first.
urlpatterns = [
    path("api/v1/", include("apps.catalog.api.urls")),
    path("api/v1/", include("apps.orders.api.urls")),
    path("api/v1/", include("apps.promotions.api.urls")),
    path("api/v1/", include("apps.users.api.urls")),
    path("api/v1/", include("apps.notifications.api.urls")),
    path("api/v1/", include("infra.signing.urls")),
    path("healthz/live", for_reading(live)),
    path("healthz/ready", for_reading(ready)),
    path("api/schema", for_reading(SchemaView.as_view()), name="schema"),
    path("api/docs", for_reading(DocsView.as_view(url_name="schema")), name="docs"),
    path("static/drf_spectacular_sidecar/<path:path>", for_reading(docs_part)),
]
