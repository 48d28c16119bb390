"""Background work of the outbox."""

from datetime import UTC, datetime, timedelta

from celery import shared_task
from django.conf import settings

from infra.followups.rounds import round_over
from infra.outbox.services import outbox_aliases, purge_sent


@shared_task(name="outbox.purge_sent")
def purge_sent_events() -> None:
    """Delete sent events whose retention is over, wherever there is an outbox."""
    before = datetime.now(UTC) - timedelta(hours=settings.OUTBOX_RETENTION_H)
    round_over(outbox_aliases(), "outbox.purge_sent", lambda alias: purge_sent(alias, before=before))
