"""App configuration of promotions."""

from django.apps import AppConfig


class PromotionsConfig(AppConfig):
    """Flash sales and coupon templates (alias `promotions`), what is sold and held of them (shards)."""

    name = "apps.promotions"
    label = "promotions"
