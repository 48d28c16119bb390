"""Background work of the inbox."""

from datetime import UTC, datetime, timedelta

from celery import shared_task
from django.conf import settings

from infra.events.inbox import purge_inbox
from infra.followups.rounds import round_over
from infra.sharding.places import shard_aliases


@shared_task(name="events.purge_inbox")
def purge_inboxes() -> None:
    """Delete inbox entries whose retention is over, wherever effects land."""
    before = datetime.now(UTC) - timedelta(hours=settings.INBOX_RETENTION_H)
    round_over(("inventory", *shard_aliases()), "events.purge_inbox", lambda alias: purge_inbox(alias, before=before))
