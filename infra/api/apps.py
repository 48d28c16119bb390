"""App configuration of the API's shared parts."""

from django.apps import AppConfig

from infra.mysql.requests import replace_receivers


class ApiConfig(AppConfig):
    """Mechanisms of the HTTP API."""

    name = "infra.api"
    label = "api"

    def ready(self) -> None:
        """Have requests give back the connections that they used."""
        replace_receivers()
