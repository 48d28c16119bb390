"""Subscriptions, events and their deliveries for tests."""

import dataclasses
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime

from django.conf import settings

from apps.notifications.models import Delivery, LoggedEvent, LogHead, Replay, Subscription
from apps.notifications.selectors import forget_targets
from apps.notifications.services import subscriptions
from apps.notifications.services.recording import record_events
from infra.events.envelope import Envelope
from tests.factories.events import TestOrder, envelope, order_on


def order_event(order: TestOrder, version: int, *, type: str = "order.paid", **payload: object) -> Envelope:  # noqa: A002
    """Return an event of an order as the consumer gets it."""
    return dataclasses.replace(envelope(order, version, type=type), payload=payload)


def record(order: TestOrder, *versions: int, type: str = "order.paid") -> list[str]:  # noqa: A002
    """Log events of an order; returns their ids."""
    events = [order_event(order, version, type=type) for version in versions]
    record_events(events, now=datetime.now(UTC))
    return [event.event_id for event in events]


def record_some(alias: str, count: int, *, type: str = "order.paid") -> list[str]:  # noqa: A002
    """Log so many events of one new order of a shard; returns their ids."""
    return record(order_on(alias), *range(1, count + 1), type=type)


def make_subscription(url: str = "", *, types: Iterable[str] = (), name: str = "") -> Subscription:
    """Make a subscription without asking whether its address can be reached."""
    row, _ = subscriptions.add_subscription(
        name=name or f"shop {secrets.token_hex(4)}", url="", event_types=list(types), now=datetime.now(UTC)
    )
    Subscription.objects.filter(id=row.id).update(url=url)
    forget_targets()
    row.refresh_from_db()
    return row


def deliveries_of(subscription: Subscription) -> list[Delivery]:
    """Return a subscription's deliveries, shard by shard in the order of the log."""
    return [
        row
        for alias in settings.SHARD_ALIASES
        for row in Delivery.objects.using(alias).filter(subscription_id=subscription.id).order_by("position")
    ]


def clear_notifications() -> None:
    """Delete all that tests before have committed."""
    for model in (Replay, Subscription):
        model.objects.all().delete()
    for alias in settings.SHARD_ALIASES:
        for model in (Delivery, LoggedEvent, LogHead):
            model.objects.using(alias).all().delete()
    forget_targets()
