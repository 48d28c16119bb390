"""Public addresses: the API, its schema and the health checks."""

from django.urls import include, path
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerView

from infra.observability.health import live, ready

handler404 = "infra.api.views.not_found_view"

# Tried in this order: the most frequent first.
urlpatterns = [
    path("api/v1/", include("apps.catalog.api.urls")),
    path("api/v1/", include("apps.orders.api.urls")),
    path("api/v1/", include("apps.users.api.urls")),
    path("healthz/live", live),
    path("healthz/ready", ready),
    path("api/schema", SpectacularJSONAPIView.as_view(), name="schema"),
    path("api/docs", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
]
