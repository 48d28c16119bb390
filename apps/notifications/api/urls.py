"""Addresses of events, below /api/v1/."""

from django.urls import path

from apps.notifications.api.views import SCHEMES, EventsView

__all__ = ["SCHEMES", "urlpatterns"]

urlpatterns = [path("events", EventsView.as_view())]
