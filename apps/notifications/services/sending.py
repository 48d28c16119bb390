"""One webhook on its way: signed as Standard Webhooks 1.0.0 has it, sent, and what came of it."""

from datetime import UTC, datetime
from typing import Final

from django.conf import settings
from standardwebhooks import Webhook

from apps.notifications import metrics
from apps.notifications.types import Outcome, Target
from infra.outgoing.client import RequestFailed, UrlRefused, post

_USER_AGENT: Final = "Floodgate-Webhooks/1"


def send(target: Target, *, event_id: str, body: str, now: datetime) -> Outcome:
    """Send an event to a subscription's URL and return what came of it; never raises for what the other side does.

    Not inside a transaction; returns within WEBHOOK_TIMEOUT_S seconds. The timestamp that is signed is this attempt's.
    """
    headers = signed_headers(target.secrets, event_id=event_id, body=body, now=now)
    try:
        answer = post(target.url, headers=headers, body=body.encode(), timeout_s=settings.WEBHOOK_TIMEOUT_S)
    except (RequestFailed, UrlRefused) as error:
        outcome = Outcome(status=None, error=str(error)[:200], retry_after="", took_s=0.0)
    else:
        refused = "" if 200 <= answer.status < 300 else f"answered {answer.status}"
        outcome = Outcome(status=answer.status, error=refused, retry_after=answer.retry_after, took_s=answer.took_s)
        metrics.ANSWER_SECONDS.observe(answer.took_s)
    metrics.ATTEMPTS.labels("delivered" if outcome.succeeded else "failed").inc()
    return outcome


def signed_headers(secrets: tuple[str, ...], *, event_id: str, body: str, now: datetime) -> dict[str, str]:
    """Return the headers of a webhook: its id, this attempt's time, and a signature by each active secret.

    Source: the Standard Webhooks specification 1.0.0, "Signature scheme" and "Webhook headers"; HMAC-SHA256 over
    `id.timestamp.body`, in base64 behind `v1,`.
    """
    signed_at = now.astimezone(UTC)
    return {
        "Content-Type": "application/json",
        "User-Agent": _USER_AGENT,
        "webhook-id": event_id,
        "webhook-timestamp": str(int(signed_at.timestamp())),
        "webhook-signature": " ".join(
            Webhook(secret).sign(msg_id=event_id, timestamp=signed_at, data=body) for secret in secrets
        ),
    }
