"""App configuration of orders."""

from importlib import import_module

from django.apps import AppConfig


class OrdersConfig(AppConfig):
    """Orders and the use cases around them."""

    name = "apps.orders"
    label = "orders"

    def ready(self) -> None:
        """Register what orders hold of a customer."""
        holdings = import_module("apps.users.holdings")
        holdings.register_holding(import_module("apps.orders.holding").OrderHolding())
