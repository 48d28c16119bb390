"""App configuration of the event bus."""

from django.apps import AppConfig


class EventsConfig(AppConfig):
    """Bus, consumers, inbox, dead letters."""

    name = "infra.events"
    label = "events"
