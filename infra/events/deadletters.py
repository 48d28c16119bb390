"""Events that a group could not take, and those of the same aggregate that wait behind them."""

from collections.abc import Collection
from datetime import datetime
from typing import Final

from django.db import IntegrityError
from django.db.models import QuerySet

from infra.events import metrics
from infra.events.consumers import Subscription
from infra.events.envelope import Envelope, decode, encode
from infra.events.locks import letters_of_aggregate_for_update
from infra.events.models import DeadLetter
from infra.events.outages import is_outage
from infra.mysql.errors import is_duplicate_key
from infra.sharding.places import place_of_slot, shard_atomic

_MAX_ERROR_LENGTH: Final = 500


def blocked_aggregates(alias: str, group: str, slots: Collection[int]) -> set[tuple[str, int]]:
    """Return the aggregates of these slots that have dead letters for a group: what comes for them must wait."""
    return set(
        DeadLetter.objects.using(alias)
        .filter(slot__in=slots, group_name=group)
        .values_list("aggregate", "aggregate_id")
        .distinct()
    )


def bury(group: str, envelope: Envelope, *, error: str, attempt_count: int, now: datetime) -> None:
    """Keep an event that a group has given up; burying it again changes nothing."""
    place = place_of_slot(envelope.slot)
    letter = _letter(group, envelope, state=DeadLetter.State.FAILED, now=now)
    letter.last_error = error[:_MAX_ERROR_LENGTH]
    letter.attempt_count = attempt_count
    try:
        with place.atomic():
            letter.save(using=place.alias, force_insert=True)
    except IntegrityError as repeated:
        if not is_duplicate_key(repeated):
            raise
        return
    metrics.DEAD_LETTERED.labels(group).inc()


def park(alias: str, group: str, envelope: Envelope, *, now: datetime) -> bool:
    """Keep an event behind the dead letters of its aggregate; False if there are none any more, so it can be taken.

    Concurrency: meets a replay on the row locks of the aggregate, so an event is parked only behind one that stays.
    """
    with shard_atomic(alias, {envelope.slot}):
        letters = list(letters_of_aggregate_for_update(alias, group, envelope))
        if not letters:
            return False
        if all(letter.event_id != envelope.event_id for letter in letters):
            _letter(group, envelope, state=DeadLetter.State.PARKED, now=now).save(using=alias, force_insert=True)
            metrics.PARKED.labels(group).inc()
    return True


def replay(alias: str, subscription: Subscription, *, limit: int) -> tuple[int, int]:
    """Give a shard's dead letters to their group again, each aggregate's in order; returns (taken, left).

    An aggregate stops at the first event that fails again; an outage is raised. Resumable: what was taken is gone.
    """
    letters = list(DeadLetter.objects.using(alias).filter(group_name=subscription.group).order_by("created_at")[:limit])
    firsts: dict[tuple[str, int], DeadLetter] = {}
    for letter in letters:
        firsts.setdefault((letter.aggregate, letter.aggregate_id), letter)
    taken_count = sum(_replay_aggregate(alias, subscription, decode(_body(first))) for first in firsts.values())
    return taken_count, DeadLetter.objects.using(alias).filter(group_name=subscription.group).count()


def replay_aggregate(alias: str, subscription: Subscription, *, slot: int, aggregate: str, aggregate_id: int) -> int:
    """Give the dead letters of one aggregate to their group again, in order; returns how many it took.

    Stops at the first that fails again, whose error is then its own; an outage is raised.
    """
    letter = (
        DeadLetter.objects.using(alias)
        .filter(slot=slot, group_name=subscription.group, aggregate=aggregate, aggregate_id=aggregate_id)
        .first()
    )
    return 0 if letter is None else _replay_aggregate(alias, subscription, decode(_body(letter)))


def oldest_letters(alias: str, *, limit: int) -> list[DeadLetter]:
    """Return the letters of a shard that failed, oldest first; what is parked behind them goes with them."""
    failed = DeadLetter.objects.using(alias).filter(state=DeadLetter.State.FAILED)
    return list(failed.order_by("created_at")[:limit])


def _replay_aggregate(alias: str, subscription: Subscription, any_of_it: Envelope) -> int:
    taken_count = 0
    while True:
        letter = _first_letter(alias, subscription.group, any_of_it)
        if letter is None:
            return taken_count
        try:
            subscription.consume([decode(_body(letter))])
        except Exception as error:
            if is_outage(error):
                raise
            _note_failure(alias, letter, error)
            return taken_count
        with shard_atomic(alias, {letter.slot}):
            list(letters_of_aggregate_for_update(alias, subscription.group, any_of_it))
            _rows(alias, letter).delete()
        taken_count += 1


def _first_letter(alias: str, group: str, any_of_it: Envelope) -> DeadLetter | None:
    return (
        DeadLetter.objects.using(alias)
        .filter(
            slot=any_of_it.slot,
            group_name=group,
            aggregate=any_of_it.aggregate,
            aggregate_id=any_of_it.aggregate_id,
        )
        .order_by("aggregate_version")
        .first()
    )


def _note_failure(alias: str, letter: DeadLetter, error: Exception) -> None:
    with shard_atomic(alias, {letter.slot}):
        _rows(alias, letter).update(
            state=DeadLetter.State.FAILED,
            attempt_count=letter.attempt_count + 1,
            last_error=describe(error)[:_MAX_ERROR_LENGTH],
        )


def describe(error: BaseException) -> str:
    """Return an error as it is stored and logged."""
    return f"{type(error).__name__}: {error}"


def _rows(alias: str, letter: DeadLetter) -> QuerySet[DeadLetter]:
    return DeadLetter.objects.using(alias).filter(
        slot=letter.slot,
        group_name=letter.group_name,
        aggregate=letter.aggregate,
        aggregate_id=letter.aggregate_id,
        aggregate_version=letter.aggregate_version,
        event_id=letter.event_id,
    )


def _body(letter: DeadLetter) -> bytes:
    return letter.envelope.encode()


def _letter(group: str, envelope: Envelope, *, state: DeadLetter.State, now: datetime) -> DeadLetter:
    return DeadLetter(
        slot=envelope.slot,
        group_name=group,
        aggregate=envelope.aggregate,
        aggregate_id=envelope.aggregate_id,
        aggregate_version=envelope.version,
        event_id=envelope.event_id,
        type=envelope.type,
        envelope=encode(envelope).decode(),
        state=state,
        created_at=now,
    )
