"""App configuration of payments."""

from django.apps import AppConfig


class PaymentsConfig(AppConfig):
    """Attempts, refunds and providers' callbacks."""

    name = "apps.payments"
    label = "payments"
