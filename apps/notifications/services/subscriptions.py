"""What the staff do with subscriptions, and what the sender does to one that lastingly fails."""

import base64
import logging
import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import IntegrityError, transaction

from apps.notifications import metrics
from apps.notifications.domain import example_body
from apps.notifications.errors import SubscriptionNotFound, SubscriptionRefused
from apps.notifications.models import Replay, Subscription
from apps.notifications.selectors import EVENTS_TOKEN_PREFIX, forget_targets, target_of, token_digest
from apps.notifications.services.sending import send
from apps.notifications.types import Outcome
from apps.orders.events import ORDER_EVENTS
from infra.mysql.errors import is_duplicate_key
from infra.outbox.services import new_event_ids
from infra.outgoing.client import UrlRefused, check_reachable

_log = logging.getLogger(__name__)

_ALIAS: Final = "default"
_SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - how the specification marks one
_SECRET_BYTES: Final = 32
_TOKEN_BYTES: Final = 32
_URL_CHECK_S: Final = 3.0


def add_subscription(*, name: str, url: str, event_types: Collection[str], now: datetime) -> tuple[Subscription, str]:
    """Make a subscription; returns it with its secret in plain text, to be shown once. Raises SubscriptionRefused."""
    check_fields(url=url, event_types=event_types)
    check_room()
    secret = _new_secret()
    row = Subscription(
        name=name.strip(),
        url=url,
        event_types=sorted(event_types),
        secret=secret,
        secret_rotated_at=now,
        created_at=now,
    )
    try:
        with transaction.atomic(using=_ALIAS):
            row.save(force_insert=True)
    except IntegrityError as error:
        if not is_duplicate_key(error):
            raise
        raise SubscriptionRefused("There is a subscription of this name.") from error
    forget_targets()
    return row, secret


def change_subscription(subscription_id: int, *, name: str, url: str, event_types: Collection[str]) -> None:
    """Change where a subscription is told, and of what. Raises SubscriptionRefused, SubscriptionNotFound."""
    check_fields(url=url, event_types=event_types)
    try:
        with transaction.atomic(using=_ALIAS):
            _update(subscription_id, name=name.strip(), url=url, event_types=sorted(event_types))
    except IntegrityError as error:
        if not is_duplicate_key(error):
            raise
        raise SubscriptionRefused("There is a subscription of this name.") from error


def check_fields(*, url: str, event_types: Collection[str]) -> None:
    """Refuse an address that webhooks may not be sent to, and types that there are not. Raises SubscriptionRefused."""
    unknown = sorted(set(event_types) - ORDER_EVENTS)
    if unknown:
        raise SubscriptionRefused(f"There are no events of type {', '.join(unknown)}.")
    if url:
        try:
            check_reachable(url, timeout_s=_URL_CHECK_S)
        except UrlRefused as error:
            raise SubscriptionRefused(str(error)) from error


def check_room() -> None:
    """Refuse one more subscription where there are as many as may be. Raises SubscriptionRefused."""
    if Subscription.objects.count() >= settings.WEBHOOK_MAX_SUBSCRIPTIONS:
        raise SubscriptionRefused(f"There are {settings.WEBHOOK_MAX_SUBSCRIPTIONS} subscriptions, as many as may be.")


def rotate_secret(subscription_id: int, *, now: datetime) -> str:
    """Make a new secret; returns it in plain text, for showing it once.

    From now on both sign, the new one and the one before it; an older one no longer does. Raises SubscriptionNotFound.
    """
    secret = _new_secret()
    with transaction.atomic(using=_ALIAS):
        row = Subscription.objects.select_for_update().filter(id=subscription_id).first()
        if row is None:
            raise SubscriptionNotFound("There is no such subscription.")
        _update(subscription_id, secret=secret, previous_secret=row.secret, secret_rotated_at=now)
    return secret


def retire_secret(subscription_id: int) -> None:
    """Sign with the present secret alone from now on. Raises SubscriptionNotFound."""
    _update(subscription_id, previous_secret="")


def issue_events_token(subscription_id: int) -> str:
    """Make a token for reading GET /events; returns it, for showing it once. The one before it ends.

    Raises SubscriptionNotFound.
    """
    token = EVENTS_TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
    _update(subscription_id, token_digest=token_digest(token))
    return token


def enable(subscription_id: int) -> None:
    """Send to a subscription again: what it is owed still, and what happens from now on.

    What happened while it was disabled is sent by a replay. Raises SubscriptionNotFound.
    """
    _update(subscription_id, enabled=True, disabled_reason="", disabled_at=None, failing_since=None)


def disable(subscription_id: int, *, reason: str, now: datetime) -> None:
    """Send nothing more to a subscription, and let nobody read with its token. Raises SubscriptionNotFound."""
    _update(subscription_id, enabled=False, disabled_reason=reason[:200], disabled_at=now)


def request_replay(subscription_id: int, *, since: datetime, reason: str, requested_by: str, now: datetime) -> Replay:
    """Have a subscription be sent all of its events from a time on, as far as they are kept, also those it has had.

    Done in rounds by `drive_replays`. Raises SubscriptionRefused, SubscriptionNotFound.
    """
    row = Subscription.objects.filter(id=subscription_id).first()
    if row is None:
        raise SubscriptionNotFound("There is no such subscription.")
    if not row.enabled or not row.url:
        raise SubscriptionRefused(f"{row.name} is not sent webhooks: enable it first, or give it an address.")
    if not reason.strip():
        raise SubscriptionRefused("Say why.")
    if since > now:
        raise SubscriptionRefused("That is still to come.")
    if since < now - timedelta(days=settings.EVENTS_LOG_RETENTION_DAYS):
        raise SubscriptionRefused(f"Events are kept for {settings.EVENTS_LOG_RETENTION_DAYS} days.")
    if Replay.objects.filter(subscription=row, finished_at__isnull=True).exists():
        raise SubscriptionRefused(f"A replay to {row.name} is under way.")
    return Replay.objects.create(
        subscription=row, since=since, reason=reason.strip()[:200], requested_by=requested_by, requested_at=now
    )


def send_test_event(subscription_id: int, *, now: datetime) -> Outcome:
    """Send an event of type `webhook.test` at once, also to a disabled subscription; returns what came of it.

    Not stored, not retried. Raises SubscriptionNotFound, SubscriptionRefused.
    """
    row = Subscription.objects.filter(id=subscription_id).first()
    if row is None:
        raise SubscriptionNotFound("There is no such subscription.")
    if not row.url:
        raise SubscriptionRefused(f"{row.name} has no address.")
    [event_id] = new_event_ids(1, now)
    body = example_body(event_id, subscription_id=row.id, now=now).decode()
    return send(target_of(row), event_id=event_id, body=body, now=now)


def note_outcomes(outcomes: dict[int, bool], gone: Collection[int], *, now: datetime) -> None:
    """Remember since when subscriptions have failed without a success, and disable those that do so lastingly.

    `outcomes` says for each subscription whether anything got through in this round; `gone` are those whose receiver
    said 410. Each change is one guarded statement, so senders at once do no harm.
    """
    rows = Subscription.objects.filter(enabled=True)
    for subscription_id, succeeded in outcomes.items():
        if succeeded:
            rows.filter(id=subscription_id, failing_since__isnull=False).update(failing_since=None)
        else:
            rows.filter(id=subscription_id, failing_since__isnull=True).update(failing_since=now)
    too_long = rows.filter(id__in=outcomes, failing_since__lte=now - settings.WEBHOOK_RETRY_PERIOD)
    lasting_days = settings.WEBHOOK_RETRY_PERIOD.days
    for subscription_id, reason in [
        *((each, "the receiver says that it is gone (410)") for each in gone),
        *((each, f"nothing got through for {lasting_days} days") for each in too_long.values_list("id", flat=True)),
    ]:
        changed = rows.filter(id=subscription_id).update(enabled=False, disabled_reason=reason, disabled_at=now)
        if changed:
            metrics.DISABLED.inc()
            _log.error("webhook subscription %s was disabled: %s", subscription_id, reason)
    forget_targets()


def _update(subscription_id: int, **changes: object) -> None:
    if not Subscription.objects.filter(id=subscription_id).update(**changes):
        raise SubscriptionNotFound("There is no such subscription.")
    forget_targets()


def _new_secret() -> str:
    """Return a secret as the specification writes them: 32 random bytes in base64 behind `whsec_`."""
    return _SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
