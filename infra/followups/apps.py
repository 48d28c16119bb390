"""App configuration of the follow-ups."""

from django.apps import AppConfig


class FollowupsConfig(AppConfig):
    """Work that is owed to orders, by kind and due time."""

    name = "infra.followups"
    label = "followups"
