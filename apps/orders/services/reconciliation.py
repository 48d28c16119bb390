"""A day of a provider's settlement file against the ledger over all shards; mends what is safe, keeps the rest.

Safe is what a callback or poll would have done: a line of money that the ledger does not know yet is asked about at the
provider, and the provider's word takes its usual way. Every step may be repeated: a run that was cut off goes on behind
its last batch, and one that ended may be run again.
"""

import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import islice
from typing import Final

from django.db import OperationalError

from apps.orders.services.payment import record_payment_outcome, record_refund_outcome
from apps.payments import services as payments
from apps.payments.errors import ProviderRefused, ProviderTimeout, ProviderUnavailable
from apps.payments.selectors import get_attempt, get_refund
from apps.payments.services import parse_reference
from apps.payments.types import DifferenceKind, DifferenceState, FoundDifference, SettlementEntry
from infra.errors import DomainError
from infra.sharding.places import shard_aliases

_log = logging.getLogger(__name__)

BATCH_SIZE: Final = 200
_MENDED: Final = "the provider was asked, and its word recorded"


@dataclass(slots=True)
class Reconciliation:
    """What a run has done; `is_finished` is false where it was cut off, to go on later."""

    provider: str
    day: date
    line_count: int = 0
    is_finished: bool = False
    mended: Counter[DifferenceKind] = field(default_factory=Counter)
    found: Counter[DifferenceKind] = field(default_factory=Counter)


def reconcile(*, provider: str, day: date, now: datetime, deadline_s: float | None = None) -> Reconciliation:
    """Compare a day (UTC) of a provider with the ledger of all shards.

    Differences are kept (`payments.Difference`), each once; those that agree by now are noted as mended. Stops after
    `deadline_s` seconds, and goes on there when it is called again. Raises ProviderTimeout, ProviderUnavailable or
    ProviderRefused where there is no file, OperationalError where a shard is down: run it again.
    """
    stop_at = None if deadline_s is None else time.monotonic() + deadline_s
    report = Reconciliation(provider, day)
    run = payments.begin_run(provider=provider, day=day, now=now)
    report.line_count = run.lines_done
    lines = islice(payments.read_settlement(provider, day), run.lines_done, None)
    while batch := list(islice(lines, BATCH_SIZE)):
        _compare(batch, report, now=now)
        report.line_count += len(batch)
        payments.note_progress(run, lines_done=report.line_count)
        if stop_at is not None and time.monotonic() > stop_at:
            return report
    for alias in shard_aliases():
        for difference in payments.missing_in_file(alias, provider=provider, day=day):
            _keep(difference, report, DifferenceState.OPEN, now=now)
    _look_again(report, now=now)
    payments.finish_run(run, now=now)
    report.is_finished = True
    return report


def reconcile_day_before(*, now: datetime, deadline_s: float = 20.0) -> list[Reconciliation]:
    """Go on with yesterday of every provider, until it is done; a provider that has no file is left for later."""
    day = (now - timedelta(days=1)).date()
    reports = []
    for provider in payments.provider_names():
        if payments.run_is_finished(provider=provider, day=day):
            continue
        try:
            reports.append(reconcile(provider=provider, day=day, now=now, deadline_s=deadline_s))
        except (ProviderTimeout, ProviderUnavailable, ProviderRefused, OperationalError):
            _log.warning("%s of %s is reconciled later", day, provider, exc_info=True)
    return reports


def _compare(batch: list[SettlementEntry], report: Reconciliation, *, now: datetime) -> None:
    by_reference = {entry.reference: entry for entry in batch}
    for difference in payments.match_entries(batch, provider=report.provider, day=report.day):
        if difference.kind != DifferenceKind.MISSING_HERE or not _mend(difference.reference, now=now):
            _keep(difference, report, DifferenceState.OPEN, now=now)
            continue
        # What was mended has to agree with its line like any other.
        again = payments.match_entries([by_reference[difference.reference]], provider=report.provider, day=report.day)
        for still in again:
            _keep(still, report, DifferenceState.OPEN, now=now)
        if not again:
            _keep(difference, report, DifferenceState.MENDED, now=now)


def _mend(reference: str, *, now: datetime) -> bool:
    """Ask the provider about a payment or refund and record its word; False where that was not possible."""
    about = parse_reference(reference)
    if about is None:
        return False
    try:
        if not about.is_refund:
            attempt = get_attempt(about.order_id, about.n)
            if attempt is None:
                return False
            outcome = payments.ask_about_payment(attempt)
            record_payment_outcome(order_id=about.order_id, n=about.n, outcome=outcome, now=now)
            return True
        refund = get_refund(about.order_id, about.n)
        attempt = None if refund is None else get_attempt(about.order_id, refund.attempt_n)
        if refund is None or attempt is None:
            return False
        told = payments.ask_about_refund(refund, attempt, try_n=about.try_n)
        record_refund_outcome(order_id=about.order_id, n=about.n, try_n=about.try_n, outcome=told, now=now)
    except (DomainError, ProviderRefused) as error:
        _log.warning("%s cannot be mended now: %s", reference, error)
        return False
    return True


def _look_again(report: Reconciliation, *, now: datetime) -> None:
    """Close what has come right since: told by another day's file, or recorded meanwhile."""
    for difference in payments.open_differences(provider=report.provider):
        if difference.kind in (DifferenceKind.MISSING_THERE, DifferenceKind.MISSING_HERE) and payments.is_settled(
            difference.reference
        ):
            payments.mend_difference(difference, resolution="both agree by now", now=now)
            report.mended[DifferenceKind(difference.kind)] += 1


def _keep(found: FoundDifference, report: Reconciliation, state: DifferenceState, *, now: datetime) -> None:
    resolution = _MENDED if state == DifferenceState.MENDED else ""
    payments.keep_difference(
        found, provider=report.provider, day=report.day, state=state, resolution=resolution, now=now
    )
    (report.mended if state == DifferenceState.MENDED else report.found)[found.kind] += 1
