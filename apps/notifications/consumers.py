"""What notifications do upon events: log them for who polls, and owe webhooks."""

from collections.abc import Sequence

from django.utils import timezone

from apps.notifications.services.recording import GROUP, record_events
from apps.orders.events import ORDER_EVENTS
from infra.events.consumers import subscribe
from infra.events.envelope import Envelope


def log_events(envelopes: Sequence[Envelope]) -> None:
    """Append the events of one shard to its log."""
    record_events(envelopes, now=timezone.now())


subscribe(GROUP, ORDER_EVENTS, log_events)
