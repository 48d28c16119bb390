"""Addresses of the staff's port: admin, metrics, the health check that names dependencies."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from infra.observability.exposition import metrics
from infra.observability.health import live, ready, ready_in_detail

handler403 = "infra.staff.pages.refused"

urlpatterns = [
    path("healthz/live", live),
    path("healthz/ready", ready),
    path("healthz/dependencies", ready_in_detail),
    path("metrics", metrics),
    path("admin/i18n/", include("django.conf.urls.i18n")),
    path("admin/", admin.site.urls),
    path("", RedirectView.as_view(url="/admin/")),
]
