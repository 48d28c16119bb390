"""App configuration of notifications."""

from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    """Subscriptions (alias `default`), the log of events and the deliveries (shards)."""

    name = "apps.notifications"
    label = "notifications"
