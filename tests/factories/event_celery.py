"""The project's Celery application with a test-only task: `celery -A tests.factories.event_celery worker`."""

import time
from datetime import UTC, datetime

import django
from celery import shared_task

django.setup()

from config.celery import app  # noqa: E402 - what follows needs the models
from infra.followups.rounds import shard_round  # noqa: E402
from infra.followups.services import done, due  # noqa: E402
from infra.sharding.places import place_of_slot  # noqa: E402
from tests.factories.events import log_effect  # noqa: E402

__all__ = ["app"]

KIND = "celery_test"


@shared_task(name="tests.drain")
def drain() -> None:
    """Do what is owed: the effect and the settling are one transaction, slow enough to be killed in the middle."""
    shard_round("tests.drain", _drain_shard)


def _drain_shard(alias: str) -> int:
    follow_ups = due(alias, kind=KIND, now=datetime.now(UTC), limit=20)
    for follow_up in follow_ups:
        with place_of_slot(follow_up.slot).atomic():
            if done(follow_up):
                log_effect(follow_up, group="celery")
            time.sleep(0.03)
    return len(follow_ups)
