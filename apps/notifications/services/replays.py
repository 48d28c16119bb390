"""Working off replays: past events of the log are owed to a subscription again, batch by batch, shard by shard."""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from django.conf import settings
from django.db import transaction

from apps.notifications.models import LoggedEvent, LogHead, Replay
from apps.notifications.services.recording import owe_deliveries
from infra.followups.rounds import round_over
from infra.sharding.places import shard_aliases

_REPLAYS_A_ROUND: Final = 20


def drive_replays(*, now: datetime) -> int:
    """Bring open replays forward for a bounded time; returns how many deliveries they owe now.

    Resumable: progress is kept after each batch, and a batch that is done twice owes the same deliveries. A shard that
    is away keeps its replays open. Two drivers at once: compare-and-set on the replay's version, the second one stops.
    """
    stop_at = time.monotonic() + settings.WEBHOOK_REPLAY_ROUND_S
    rows = Replay.objects.filter(finished_at__isnull=True, subscription__enabled=True).exclude(subscription__url="")
    found_count = 0
    for replay in rows.select_related("subscription").order_by("id")[:_REPLAYS_A_ROUND]:
        found_count += _drive(replay, now=now, stop_at=stop_at)
    return found_count


def _drive(replay: Replay, *, now: datetime, stop_at: float) -> int:
    found_count = 0

    def drive_shard(alias: str) -> int:
        nonlocal found_count
        while time.monotonic() < stop_at:
            done, until = replay.progress.get(alias) or _bounds(alias, replay.since)
            through = min(done + settings.WEBHOOK_REPLAY_BATCH, until)
            batch_count = _owe_batch(alias, replay, done=done, through=through, now=now)
            if not _advance(replay, {**replay.progress, alias: [through, until]}, batch_count):
                return 0
            found_count += batch_count
            if through >= until:
                return 1
        return 0

    open_aliases = [alias for alias in shard_aliases() if not _is_done(replay.progress.get(alias))]
    round_over(open_aliases, "replay of events", drive_shard)
    if all(_is_done(replay.progress.get(alias)) for alias in shard_aliases()):
        Replay.objects.filter(id=replay.id, finished_at__isnull=True).update(finished_at=now)
    return found_count


def _bounds(alias: str, since: datetime) -> tuple[int, int]:
    """Return the position before the first event from a time on, and the last one that there is now."""
    head = LogHead.objects.using(alias).first()
    if head is None:
        return 0, 0
    first = (
        LoggedEvent.objects.using(alias)
        .filter(logged_at__gte=since)
        .order_by("logged_at", "position")
        .values_list("position", flat=True)
        .first()
    )
    return (head.position if first is None else first - 1), head.position


def _owe_batch(alias: str, replay: Replay, *, done: int, through: int, now: datetime) -> int:
    rows = LoggedEvent.objects.using(alias).filter(position__gt=done, position__lte=through)
    if replay.subscription.event_types:
        rows = rows.filter(type__in=replay.subscription.event_types)
    positions = list(rows.order_by("position").values_list("position", flat=True))
    with transaction.atomic(using=alias):
        owe_deliveries(alias, [(position, replay.subscription_id) for position in positions], now=now)
    return len(positions)


def _advance(replay: Replay, progress: Mapping[str, Any], found_count: int) -> bool:
    """Store how far a replay is, if nobody else has meanwhile."""
    changed = Replay.objects.filter(id=replay.id, version=replay.version).update(
        progress=progress, found_count=replay.found_count + found_count, version=replay.version + 1
    )
    if changed:
        replay.progress, replay.version = dict(progress), replay.version + 1
        replay.found_count += found_count
    return bool(changed)


def _is_done(progress: list[int] | None) -> bool:
    return progress is not None and progress[0] >= progress[1]
