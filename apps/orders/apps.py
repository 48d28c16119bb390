"""App configuration of orders."""

from django.apps import AppConfig


class OrdersConfig(AppConfig):
    """Orders and the use cases around them."""

    name = "apps.orders"
    label = "orders"
