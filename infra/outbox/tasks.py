"""Background work of the outbox."""

from datetime import UTC, datetime, timedelta

from celery import shared_task
from django.conf import settings

from infra.followups.rounds import round_over
from infra.outbox.services import purge_sent
from infra.sharding.places import shard_aliases


@shared_task(name="outbox.purge_sent")
def purge_sent_events() -> None:
    """Delete sent events whose retention is over, on every shard."""
    before = datetime.now(UTC) - timedelta(hours=settings.OUTBOX_RETENTION_H)
    round_over(shard_aliases(), "outbox.purge_sent", lambda alias: purge_sent(alias, before=before))
