"""Rules without input or output: what an event looks like outside, and when a delivery is tried again."""

import random
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from infra.api.rendering import rfc3339
from infra.events.envelope import Envelope

TEST_EVENT: Final = "webhook.test"
FIRST_DELAY_S: Final = 5.0
LONGEST_DELAY_S: Final = 6 * 3600.0
GONE: Final = 410
_GROWTH: Final = 4.0
_SECONDS: Final = re.compile(r"[0-9]{1,9}")


def event_body(envelope: Envelope) -> bytes:
    """Return an event as webhooks and GET /events carry it (docs/webhooks.md, docs/schemas/event.json).

    `type`, `timestamp` and `data` are those of the Standard Webhooks specification; ids are strings.
    """
    return msgspec.json.encode(
        {
            "id": envelope.event_id,
            "type": envelope.type,
            "timestamp": rfc3339(envelope.occurred_at),
            "aggregate": envelope.aggregate,
            "aggregate_id": str(envelope.aggregate_id),
            "version": envelope.version,
            "schema_version": envelope.schema_version,
            "data": {
                **envelope.payload,
                "order_id": None if envelope.order_id is None else str(envelope.order_id),
                "user_id": str(envelope.user_id),
            },
        }
    )


def example_body(event_id: str, *, subscription_id: int, now: datetime) -> bytes:
    """Return the body of the event that tells nothing, for trying a webhook."""
    return msgspec.json.encode(
        {
            "id": event_id,
            "type": TEST_EVENT,
            "timestamp": rfc3339(now),
            "aggregate": "webhook",
            "aggregate_id": str(subscription_id),
            "version": 1,
            "schema_version": 1,
            "data": {},
        }
    )


def retry_delay_s(attempt_count: int, *, spread: Callable[[], float] = random.random) -> float:
    """Return how long to wait after so many failed attempts: 5 s, 20 s, 80 s, ... up to 6 hours, less up to a quarter.

    The spread keeps deliveries that failed together from coming again together.
    """
    delay_s = min(FIRST_DELAY_S * _GROWTH ** min(attempt_count - 1, 16), LONGEST_DELAY_S)
    return delay_s * (1 - spread() / 4)


def next_attempt_at(
    *,
    attempt_count: int,
    first_at: datetime,
    retry_after: str,
    period: timedelta,
    now: datetime,
    spread: Callable[[], float] = random.random,
) -> datetime | None:
    """Return when a delivery that failed is tried again, or None when its time is over.

    Not sooner than the receiver's `Retry-After` asks for, though that counts for no more than 6 hours; the last attempt
    is at the end of the period.
    """
    ends_at = first_at + period
    if now >= ends_at:
        return None
    asked_s = min(retry_after_s(retry_after, now=now), LONGEST_DELAY_S)
    delay_s = max(retry_delay_s(attempt_count, spread=spread), asked_s)
    return min(now + timedelta(seconds=delay_s), ends_at)


def retry_after_s(text: str, *, now: datetime) -> float:
    """Return the seconds that a `Retry-After` header (RFC 9110, 10.2.3) asks for; zero for none, past or malformed."""
    text = text.strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max((at - now).total_seconds(), 0.0)
