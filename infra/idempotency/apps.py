"""App configuration of the idempotency keys."""

from django.apps import AppConfig


class IdempotencyConfig(AppConfig):
    """Keys of requests and their first answers, on the shard of their user."""

    name = "infra.idempotency"
    label = "idempotency"
