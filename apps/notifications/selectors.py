"""Reads of notifications: who is told of what, a page of the log, deliveries for the staff."""

import hashlib
import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from django.conf import settings
from django.db import OperationalError, connections

from apps.notifications.errors import EventsTokenInvalid, PositionGone
from apps.notifications.models import Delivery, LoggedEvent, LogHead, Subscription
from apps.notifications.types import Audience, DeliveryRow, EventPage, EventReader, Interest, Positions, Target
from infra.sharding.places import shard_aliases

_log = logging.getLogger(__name__)

EVENTS_TOKEN_PREFIX: Final = "fgev_"  # noqa: S105 - how tokens are told from others
_MAX_ROWS: Final = 1000


class _Known:
    """The subscriptions as this process read them last, and when (monotonic seconds)."""

    audience: Audience | None = None
    targets: Sequence[Target] | None = None
    read_at = float("-inf")
    lock = threading.Lock()


_known: Final = _Known()


def audience() -> Audience:
    """Return who is told of events now.

    Read anew each time, so that a new subscription is owed all that is consumed after it was made. While `default` is
    away, who was told last; raises its error in a process that has never read it.
    """
    try:
        rows = list(Subscription.objects.values_list("id", "event_types", "enabled", "url"))
    except OperationalError:
        if _known.audience is None:
            raise
        _log.warning("subscriptions cannot be read; the last known ones hold", exc_info=True)
        connections["default"].close()
        return _known.audience
    interests = tuple(Interest(id_, frozenset(types)) for id_, types, enabled, url in rows if enabled and url)
    _known.audience = Audience(interests=interests, is_there=bool(rows))
    return _known.audience


def webhook_targets() -> Sequence[Target]:
    """Return the enabled subscriptions that have a URL, at most a few seconds old.

    While `default` is away, those that were read last; raises its error in a process that has never read them.
    """
    with _known.lock:
        if time.monotonic() - _known.read_at >= settings.WEBHOOK_SUBSCRIPTIONS_TTL_S:
            _known.read_at = time.monotonic()
            try:
                _known.targets = [
                    _target(row) for row in Subscription.objects.filter(enabled=True).exclude(url="").order_by("id")
                ]
            except OperationalError:
                if _known.targets is None:
                    _known.read_at = float("-inf")
                    raise
                _log.warning("subscriptions cannot be read; the last known ones hold", exc_info=True)
                connections["default"].close()
        assert _known.targets is not None  # noqa: S101 - read above
        return _known.targets


def forget_targets() -> None:
    """Have this process read the subscriptions again before it uses them."""
    _known.read_at = float("-inf")


def target_of(subscription: Subscription) -> Target:
    """Return a subscription as the sender needs it."""
    return _target(subscription)


def token_digest(token: str) -> bytes:
    """Return what is stored of an events token. It is long and random, so a plain digest gives nothing away."""
    return hashlib.sha256(token.encode()).digest()


def reader_of_token(token: str) -> EventReader:
    """Return who reads events with a token. Raises EventsTokenInvalid."""
    row = None
    if token.startswith(EVENTS_TOKEN_PREFIX) and token.isascii():
        row = Subscription.objects.filter(token_digest=token_digest(token), enabled=True).first()
    if row is None:
        raise EventsTokenInvalid("This is not the events token of an enabled subscription.")
    return EventReader(subscription_id=row.id, event_types=frozenset(row.event_types))


def events_after(positions: Positions, *, event_types: frozenset[str], limit: int) -> EventPage:
    """Return the next events of all shards after a reader's positions, each shard's in the order of its log.

    Looks at EVENTS_LOG_WINDOW events of each shard at most, so a page may be short or empty while there are `more`. A
    shard that is away keeps its position: its events come when it is back. Raises PositionGone when events after a
    position have been purged, OperationalError when no shard answers.
    """
    rows: list[tuple[Any, str, int, str]] = []
    read_to: dict[str, int] = dict(positions)
    heads: dict[str, int] = {}
    failure: OperationalError | None = None
    for alias in shard_aliases():
        try:
            found, heads[alias], read_to[alias] = _shard_events(
                alias, positions.get(alias), event_types=event_types, limit=limit
            )
        except OperationalError as error:
            failure = error
            _log.warning("%s cannot be read for GET /events: %s", alias, error)
            continue
        rows += [(logged_at, alias, position, body) for position, logged_at, body in found]
    if not heads and failure is not None:
        raise failure
    rows.sort(key=lambda row: row[:3])
    for _, alias, position, _ in reversed(rows[limit:]):
        # What does not fit is read again from before it: within a shard times and positions have the same order.
        read_to[alias] = min(read_to[alias], position - 1)
    return EventPage(
        bodies=[body.encode() for *_, body in rows[:limit]],
        positions=read_to,
        more=any(read_to[alias] < head for alias, head in heads.items()),
    )


def _shard_events(
    alias: str, after: int | None, *, event_types: frozenset[str], limit: int
) -> tuple[list[tuple[int, Any, str]], int, int]:
    """Return a shard's next events, the head of its log, and the position up to which all of them were seen.

    The head is read first: all that is at or below it is committed. The purge's mark is read last: it is committed
    before anything is deleted, so rows that were missing here cannot go unnoticed.
    """
    head = LogHead.objects.using(alias).first()
    if head is None:
        return [], 0, 0
    start = head.purged_through if after is None else after
    through = min(head.position, start + settings.EVENTS_LOG_WINDOW)
    rows = LoggedEvent.objects.using(alias).filter(position__gt=start, position__lte=through)
    if event_types:
        rows = rows.filter(type__in=event_types)
    found = list(rows.order_by("position").values_list("position", "logged_at", "body")[:limit])
    purged_through = LogHead.objects.using(alias).values_list("purged_through", flat=True).get()
    if purged_through > start:
        if after is None:
            return _shard_events(alias, None, event_types=event_types, limit=limit)
        raise PositionGone(f"Events after {after} on {alias} are no longer kept.")
    return found, head.position, found[-1][0] if len(found) == limit else through


def deliveries(*, subscription_id: int, state: str, limit: int) -> tuple[list[DeliveryRow], list[str]]:
    """Return a subscription's newest deliveries in a state, of all shards, and the shards that did not answer."""
    name = Subscription.objects.filter(id=subscription_id).values_list("name", flat=True).first() or ""
    rows: list[DeliveryRow] = []
    unreachable: list[str] = []
    for alias in shard_aliases():
        try:
            found = list(
                Delivery.objects.using(alias)
                .filter(subscription_id=subscription_id, state=state)
                .order_by("-position")[: min(limit, _MAX_ROWS)]
            )
            events = _events_by_position(alias, (row.position for row in found))
        except OperationalError:
            unreachable.append(alias)
            continue
        rows += [_delivery_row(alias, row, name, events) for row in found]
    rows.sort(key=lambda row: row.created_at, reverse=True)
    return rows[:limit], unreachable


def _events_by_position(alias: str, positions: Iterable[int]) -> Mapping[int, tuple[str, str]]:
    rows = LoggedEvent.objects.using(alias).filter(position__in=list(positions))
    return {position: (event_id, kind) for position, event_id, kind in rows.values_list("position", "event_id", "type")}


def _delivery_row(alias: str, row: Delivery, name: str, events: Mapping[int, tuple[str, str]]) -> DeliveryRow:
    event_id, event_type = events.get(row.position, ("", "no longer kept"))
    return DeliveryRow(
        alias=alias,
        position=row.position,
        subscription_id=row.subscription_id,
        subscription=name,
        event_id=event_id,
        event_type=event_type,
        state=row.state,
        attempt_count=row.attempt_count,
        due_at=row.due_at,
        last_status=row.last_status,
        last_error=row.last_error,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )


def _target(row: Subscription) -> Target:
    return Target(
        id=row.id,
        name=row.name,
        url=row.url,
        secrets=tuple(secret for secret in (row.secret, row.previous_secret) if secret),
        failing_since=row.failing_since,
    )
