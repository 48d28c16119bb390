"""The app of categories, products, SKUs and prices."""

from django.apps import AppConfig


class CatalogConfig(AppConfig):
    """What is sold (alias `catalog`)."""

    name = "apps.catalog"
    label = "catalog"
    verbose_name = "catalog"
