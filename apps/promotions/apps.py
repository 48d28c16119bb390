"""App configuration of promotions."""

from django.apps import AppConfig


class PromotionsConfig(AppConfig):
    """Flash sales (alias `promotions`), their allotments, purchases and claims (shards)."""

    name = "apps.promotions"
    label = "promotions"
