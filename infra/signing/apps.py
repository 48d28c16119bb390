"""App configuration of request signing."""

from django.apps import AppConfig


class SigningConfig(AppConfig):
    """Clients that sign their requests, and their keys."""

    name = "infra.signing"
    label = "signing"
    verbose_name = "API clients"
