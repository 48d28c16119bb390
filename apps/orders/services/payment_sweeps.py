"""What is owed to payments: asking providers about attempts, and driving refunds until they have ended.

Each follow-up is one call to a provider and one transaction. A provider or shard that is down postpones its own work
only; two sweeps at once do the same work twice, which changes nothing.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from django.db import DatabaseError

from apps.orders.services.payment import record_payment_outcome, record_refund_outcome
from apps.orders.types import SweepReport
from apps.payments import services as payments
from apps.payments.errors import PaymentNotFound, ProviderRefused, ProviderUnavailable, UnknownAtProvider
from apps.payments.selectors import get_attempt, get_refund
from apps.payments.types import (
    OPEN_REFUNDS,
    AttemptStatus,
    AttemptView,
    PaymentOutcome,
    RefundChange,
    RefundOutcome,
    RefundStatus,
    RefundView,
)
from infra.errors import DomainError
from infra.followups.rounds import shard_round
from infra.followups.services import done, due, postpone, put_off
from infra.followups.types import FollowUp

_log = logging.getLogger(__name__)

BATCH_SIZE: Final = 200
_DEADLINE_S: Final = 20.0
_REFUND_CHECK_S: Final = 1.0


def poll_due_payments(*, now: datetime, limit: int = BATCH_SIZE) -> SweepReport:
    """Ask the providers about the attempts whose time has come, on every shard; returns counts by outcome."""
    return _sweep(payments.POLL, _poll, now=now, limit=limit)


def drive_due_refunds(*, now: datetime, limit: int = BATCH_SIZE) -> SweepReport:
    """Bring the refunds forward whose time has come, on every shard; returns counts by outcome."""
    return _sweep(payments.REFUND, _drive, now=now, limit=limit)


def _sweep(kind: str, settle: Callable[..., str], *, now: datetime, limit: int) -> SweepReport:
    counts: Counter[str] = Counter()
    stop_at = time.monotonic() + _DEADLINE_S

    def sweep(alias: str) -> int:
        owed = due(alias, kind=kind, now=now, limit=limit)
        for follow_up in owed:
            if time.monotonic() > stop_at:
                break
            try:
                counts[settle(follow_up, now=now)] += 1
            except (DatabaseError, DomainError) as error:
                counts["postponed"] += 1
                _postpone(follow_up, error, now=now)
        return len(owed)

    shard_round(f"{kind} follow-ups", sweep)
    return SweepReport(dict(counts))


def _postpone(follow_up: FollowUp, error: Exception, *, now: datetime) -> None:
    _log.warning("%s of order %s is postponed: %s", follow_up.kind, follow_up.order_id, error)
    try:
        postpone(follow_up, now=now, error=type(error).__name__)
    except (DatabaseError, DomainError):
        _log.warning("%s cannot write", follow_up.alias, exc_info=True)  # it stays due


def _poll(follow_up: FollowUp, *, now: datetime) -> str:
    """Ask about one attempt and say when it is asked about again; returns the attempt's status."""
    attempt = get_attempt(follow_up.order_id, follow_up.n)
    if attempt is None or attempt.status == AttemptStatus.SUCCEEDED:
        done(follow_up)
        return "settled"
    try:
        outcome = payments.ask_provider(attempt)
    except UnknownAtProvider as error:
        payments.alert_staff(
            provider=attempt.provider, kind="unknown_there", reference=attempt.payment_id, detail=str(error)
        )
        outcome = PaymentOutcome(attempt.status)
    except ProviderRefused:
        outcome = PaymentOutcome(AttemptStatus.FAILED)
    change = record_payment_outcome(order_id=attempt.order_id, n=attempt.n, outcome=outcome, now=now)
    closed_at = attempt.updated_at if change.after == attempt.status else now
    delay_s = payments.next_poll_s(
        change.after, age_s=(now - closed_at).total_seconds(), capture_owed=attempt.capture_owed
    )
    if delay_s is None:
        done(follow_up)
    else:
        put_off(follow_up, until=now + timedelta(seconds=delay_s))
    return str(change.after)


def _drive(follow_up: FollowUp, *, now: datetime) -> str:
    """Bring one refund forward; returns its status."""
    refund = get_refund(follow_up.order_id, follow_up.n)
    if refund is None or refund.status not in OPEN_REFUNDS:
        done(follow_up)
        return "settled"
    attempt = get_attempt(refund.order_id, refund.attempt_n)
    if attempt is None:
        raise PaymentNotFound(f"{refund.refund_id} is of an attempt that is not there.")
    is_repeat = refund.status == RefundStatus.APPROVED and refund.tries > 1
    try_at = refund.updated_at + timedelta(seconds=payments.refund_try_delay_s(refund.tries))
    if is_repeat and try_at > now:
        put_off(follow_up, until=try_at)
        return "waiting"
    change = _after_failed_try(refund, attempt, now=now) if is_repeat else None
    if change is None:
        try:
            outcome = payments.execute_refund(refund, attempt)
        except ProviderRefused:
            outcome = RefundOutcome(RefundStatus.FAILED)
        change = record_refund_outcome(
            order_id=refund.order_id, n=refund.n, try_n=refund.tries, outcome=outcome, now=now
        )
    if change.after in OPEN_REFUNDS:
        put_off(follow_up, until=now + timedelta(seconds=_REFUND_CHECK_S))
    else:
        done(follow_up)
    return str(change.after)


def _after_failed_try(refund: RefundView, attempt: AttemptView, *, now: datetime) -> RefundChange | None:
    """Make sure that the try before has failed; where it went through after all, take that, and try no more.

    A try that is still under way there is waited for (ProviderUnavailable).
    """
    outcome = payments.ask_about_failed_try(refund, attempt)
    if outcome.status == RefundStatus.FAILED:
        return None
    if outcome.status == RefundStatus.PROCESSING:
        raise ProviderUnavailable(f"{refund.refund_id} was told to have failed, and is still under way.")
    return record_refund_outcome(
        order_id=refund.order_id, n=refund.n, try_n=refund.tries - 1, outcome=outcome, is_latest=True, now=now
    )
