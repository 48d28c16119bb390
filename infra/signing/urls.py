"""Addresses for clients that sign their requests."""

from django.urls import path

from infra.signing.api import ClientView

urlpatterns = [path("client", ClientView.as_view())]
