"""A provider's settlement file against the ledger: matching its lines, and what the ledger has beside them."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from django.db.models import Q

from apps.payments.domain import AttemptStatus, Money, RefundStatus, parse_reference, payment_id, refund_try_id
from apps.payments.models import Attempt, Difference, Refund, SettlementRun
from apps.payments.types import (
    OPEN_REFUNDS,
    DifferenceKind,
    DifferenceState,
    FoundDifference,
    Reference,
    SettlementEntry,
)
from infra.errors import InvalidState
from infra.sharding.ids import slot_of
from infra.sharding.monthly import existing_months
from infra.sharding.months import Month
from infra.sharding.places import place_of_order, shard_atomic

MAX_FOUND: Final = 500
"""The ledger is asked for so many rows that a file lacks, each shard and month: more is one disaster."""

_Key = tuple[int, int]


def match_entries(entries: Sequence[SettlementEntry], *, provider: str, day: date) -> list[FoundDifference]:
    """Mark what the ledger knows just so as settled on that day, and return the others.

    Idempotent: a line that was matched before is matched again. One read and one write a shard and month.
    """
    found: list[FoundDifference] = []
    groups: dict[tuple[str, Month, bool], list[tuple[Reference, SettlementEntry]]] = defaultdict(list)
    seen: set[str] = set()
    for entry in entries:
        about = parse_reference(entry.reference)
        if about is None or about.is_refund != entry.is_refund:
            found.append(_found(DifferenceKind.UNKNOWN, entry, ""))
        elif entry.reference in seen:
            found.append(_found(DifferenceKind.DOUBLED, entry, "told twice in one file"))
        else:
            seen.add(entry.reference)
            group = place_of_order(about.order_id).alias, Month.of_id(about.order_id), entry.is_refund
            groups[group].append((about, entry))
    for (alias, month, is_refund), members in groups.items():
        known = _rows(alias, month, members, is_refund=is_refund)
        matched: list[_Key] = []
        for about, entry in members:
            row = known.get((about.order_id, about.n))
            if row is None or row.provider != provider:
                found.append(_found(DifferenceKind.UNKNOWN, entry, ""))
            elif (kind := _judge(row, about, entry, day=day)) is not None:
                found.append(_found(kind, entry, row.shown))
            elif row.settled_on is None:
                matched.append((about.order_id, about.n))
        _mark(alias, month, matched, day=day, is_refund=is_refund)
    return found


def missing_in_file(alias: str, *, provider: str, day: date) -> Iterator[FoundDifference]:
    """Yield what a shard's ledger says moved on that day and no settlement file has told of; bounded by MAX_FOUND."""
    from_, to = _bounds(day)
    for month in existing_months(alias):
        if month.starts_at >= to:
            continue
        attempts = Attempt.objects.in_month(alias, month).filter(
            captured_at__gte=from_, captured_at__lt=to, settled_on=None, provider=provider
        )
        for row in attempts[:MAX_FOUND]:
            shown = f"{row.status} {row.captured_amount:f} {row.currency}"
            reference = payment_id(row.order_id, row.n)
            yield FoundDifference(DifferenceKind.MISSING_THERE, reference, shown, "", row.captured_at or from_)
        refunds = Refund.objects.in_month(alias, month).filter(
            ended_at__gte=from_, ended_at__lt=to, settled_on=None, outside=False
        )
        providers = _providers_of(alias, month, list(refunds[:MAX_FOUND]))
        for refund, its_provider in providers:
            if its_provider == provider:
                shown = f"{refund.status} {refund.amount:f} {refund.currency}"
                reference = refund_try_id(refund.order_id, refund.n, refund.tries)
                yield FoundDifference(DifferenceKind.MISSING_THERE, reference, shown, "", refund.ended_at or from_)


def is_settled(reference: str) -> bool:
    """Tell whether a settlement file has told of this payment or refund."""
    about = parse_reference(reference)
    if about is None:
        return False
    rows = (Refund if about.is_refund else Attempt).objects.for_order(about.order_id)
    return bool(rows.filter(order_id=about.order_id, n=about.n, settled_on__isnull=False).exists())


# -- runs and differences ---------------------------------------------------------------------------------------------


def begin_run(*, provider: str, day: date, now: datetime) -> SettlementRun:
    """Return the run of a day: the one that was cut off, to go on with, or one that begins at the file's first line."""
    run, _ = SettlementRun.objects.get_or_create(provider=provider, day=day, defaults={"started_at": now})
    if run.finished_at is not None:
        run.lines_done, run.finished_at, run.started_at = 0, None, now
        run.save()
    return run


def note_progress(run: SettlementRun, *, lines_done: int) -> None:
    """Remember how far a run has come."""
    run.lines_done = lines_done
    run.save(update_fields=["lines_done"])


def finish_run(run: SettlementRun, *, now: datetime) -> None:
    """Note that a day was compared to its end."""
    run.finished_at = now
    run.save(update_fields=["finished_at"])


def run_is_finished(*, provider: str, day: date) -> bool:
    """Tell whether that day was compared to its end."""
    return SettlementRun.objects.filter(provider=provider, day=day, finished_at__isnull=False).exists()


def keep_difference(
    found: FoundDifference, *, provider: str, day: date, state: DifferenceState, resolution: str = "", now: datetime
) -> Difference:
    """Write a difference, or bring the one that is known up; what the staff have resolved stays so."""
    difference, _ = Difference.objects.get_or_create(
        provider=provider,
        reference=found.reference[:64],
        kind=found.kind,
        defaults={"day": day, "since": found.since, "found_at": now, "updated_at": now},
    )
    if difference.state != DifferenceState.RESOLVED:
        difference.ours, difference.theirs = found.ours[:100], found.theirs[:100]
        difference.state, difference.resolution, difference.updated_at = state, resolution[:255], now
        difference.save()
    return difference


def open_differences(*, provider: str, limit: int = 1000) -> list[Difference]:
    """Return the differences that somebody has to look at, the oldest first."""
    rows = Difference.objects.filter(provider=provider, state=DifferenceState.OPEN)
    return list(rows.order_by("since", "id")[:limit])


def mend_difference(difference: Difference, *, resolution: str, now: datetime) -> None:
    """Note that both sides agree by now; compare-and-set, so that what the staff say in between stands."""
    Difference.objects.filter(id=difference.id, state=DifferenceState.OPEN).update(
        state=DifferenceState.MENDED, resolution=resolution[:255], updated_at=now
    )


def resolve_difference(difference_id: int, *, reason: str, actor: str, now: datetime) -> None:
    """Note that the staff have settled a difference, and how. Raises InvalidState if it is not open."""
    resolved = Difference.objects.filter(id=difference_id, state=DifferenceState.OPEN).update(
        state=DifferenceState.RESOLVED, resolution=reason[:255], resolved_by=actor, updated_at=now
    )
    if resolved != 1:
        raise InvalidState("This difference is not open any more.")


# -- parts ------------------------------------------------------------------------------------------------------------


class _Row:
    """What the ledger has under a reference."""

    __slots__ = ("money", "outside", "provider", "settled_on", "status", "tries")

    def __init__(self, row: Attempt | Refund, provider: str) -> None:
        self.provider, self.status, self.settled_on = provider, row.status, row.settled_on
        self.money = Money(row.amount, row.currency)
        self.tries = row.tries if isinstance(row, Refund) else 1
        self.outside = isinstance(row, Refund) and row.outside

    @property
    def shown(self) -> str:
        """The row in a few words."""
        return f"{self.status} {self.money.amount:f} {self.money.currency}"


def _judge(row: _Row, about: Reference, entry: SettlementEntry, *, day: date) -> DifferenceKind | None:
    """Return on what a line and its row differ, or None."""
    if entry.money != row.money:
        return DifferenceKind.AMOUNT
    if not entry.is_refund:
        known = row.status == AttemptStatus.SUCCEEDED
    elif row.status in OPEN_REFUNDS:
        known = False
    elif row.status != RefundStatus.SUCCEEDED:
        return DifferenceKind.CONTRADICTION
    elif row.outside or about.try_n != row.tries:
        return DifferenceKind.DOUBLED
    else:
        known = True
    if not known:
        return DifferenceKind.MISSING_HERE
    return None if row.settled_on in (None, day) else DifferenceKind.DOUBLED


def _rows(
    alias: str, month: Month, members: Sequence[tuple[Reference, SettlementEntry]], *, is_refund: bool
) -> dict[_Key, _Row]:
    order_ids = {about.order_id for about, _ in members}
    narrowed = {"slot__in": {slot_of(order_id) for order_id in order_ids}, "order_id__in": order_ids}
    if not is_refund:
        attempts = Attempt.objects.in_month(alias, month).filter(**narrowed)
        return {(row.order_id, row.n): _Row(row, row.provider) for row in attempts}
    refunds = list(Refund.objects.in_month(alias, month).filter(**narrowed))
    return {(row.order_id, row.n): _Row(row, provider) for row, provider in _providers_of(alias, month, refunds)}


def _providers_of(alias: str, month: Month, refunds: Sequence[Refund]) -> list[tuple[Refund, str]]:
    """Return refunds, each with the provider of its attempt."""
    order_ids = {refund.order_id for refund in refunds}
    if not order_ids:
        return []
    rows = Attempt.objects.in_month(alias, month).filter(
        slot__in={slot_of(order_id) for order_id in order_ids}, order_id__in=order_ids
    )
    providers = {(order_id, n): provider for order_id, n, provider in rows.values_list("order_id", "n", "provider")}
    return [(refund, providers[refund.order_id, refund.attempt_n]) for refund in refunds]


def _mark(alias: str, month: Month, keys: Sequence[_Key], *, day: date, is_refund: bool) -> None:
    if not keys:
        return
    model = (Refund if is_refund else Attempt).objects.model_for(month, alias=alias)
    condition = Q()
    for order_id, n in sorted(keys):
        condition |= Q(slot=slot_of(order_id), order_id=order_id, n=n)
    with shard_atomic(alias, {slot_of(order_id) for order_id, _ in keys}):
        model.rows.using(alias).filter(condition, settled_on=None).update(settled_on=day)


def _bounds(day: date) -> tuple[datetime, datetime]:
    from_ = datetime.combine(day, time.min, tzinfo=UTC)
    return from_, from_ + timedelta(days=1)


def _found(kind: DifferenceKind, entry: SettlementEntry, ours: str) -> FoundDifference:
    theirs = f"{'refund' if entry.is_refund else 'payment'} {entry.money.amount:f} {entry.money.currency}"
    return FoundDifference(kind, entry.reference, ours, theirs, entry.at)
