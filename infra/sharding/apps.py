"""Django app of the sharding tables."""

from django.apps import AppConfig


class ShardingConfig(AppConfig):
    """Slot map and worker numbers in `default`; fences and the register of months on each shard."""

    name = "infra.sharding"
    label = "sharding"
    verbose_name = "Sharding"
