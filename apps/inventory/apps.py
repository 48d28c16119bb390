"""The app of stock, reservations and movements."""

from django.apps import AppConfig


class InventoryConfig(AppConfig):
    """Stock of every SKU (alias `inventory`)."""

    name = "apps.inventory"
    label = "inventory"
