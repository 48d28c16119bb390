"""App configuration of the settings that the staff change."""

from django.apps import AppConfig


class DynamicConfig(AppConfig):
    """Settings that hold at once, without a restart."""

    name = "infra.dynamic"
    label = "dynamic"
    verbose_name = "Settings"
