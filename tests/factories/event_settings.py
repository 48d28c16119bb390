"""Settings of the processes that event tests start: the mechanisms alone, quick leases, test-only subscriptions."""

from config.settings import *  # noqa: F403

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "infra.sharding",
    "infra.outbox",
    "infra.events",
    "infra.followups",
]
AUTH_USER_MODEL = "auth.User"
EVENT_CONSUMERS = ["tests.factories.event_subscriptions"]
EVENT_LEASE_S = 1.0
EVENT_BATCH = 20
RELAY_BATCH = 20
SHARD_PAUSE_S = 0.5

CELERY_BROKER_TRANSPORT_OPTIONS = {
    **CELERY_BROKER_TRANSPORT_OPTIONS,  # noqa: F405
    "visibility_timeout": 2,
    "unacked_restore_interval": 1,
}
CELERY_BEAT_SCHEDULE = {"tests.drain": {"task": "tests.drain", "schedule": 0.5, "options": {"expires": 0.5}}}
