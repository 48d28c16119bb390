"""App configuration of the API's shared parts."""

from django.apps import AppConfig


class ApiConfig(AppConfig):
    """Mechanisms of the HTTP API."""

    name = "infra.api"
    label = "api"
