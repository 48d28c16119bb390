"""Refunds, written inside the order's transaction."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import Final

from django.db.models import F, Max

from apps.payments.domain import (
    VOID_REFUNDS,
    Money,
    RefundReaction,
    RefundStatus,
    refund_reaction_to,
    refundable,
)
from apps.payments.errors import AttemptChanged, PaymentNotFound, RefundTooLarge
from apps.payments.models import Refund
from apps.payments.selectors import accepted_attempt, attempts_at, get_attempt, refund_view, refunds_at
from apps.payments.types import RefundChange, RefundItem, RefundOutcome, RefundView
from infra.followups.services import schedule
from infra.sharding.months import Month
from infra.sharding.places import Place

REFUND: Final = "refund"
"""Kind of the follow-up that drives a refund until it has ended (`n` is the refund's)."""


def create_refund(
    place: Place,
    *,
    order_id: int,
    attempt_n: int,
    amount: Decimal,
    reason: str,
    items: Sequence[RefundItem] = (),
    unexpected: bool = False,
    now: datetime,
) -> RefundView:
    """Claim a part of an attempt's money, write the refund as `approved`, and owe its execution.

    Raises RefundTooLarge (what was captured is never passed, by a guarded UPDATE), PaymentNotFound.
    """
    attempt = get_attempt(order_id, attempt_n)
    if attempt is None:
        raise PaymentNotFound("There is no such payment.")
    if amount <= 0 or amount > refundable(captured=attempt.captured_amount, claimed=attempt.refund_claimed):
        raise RefundTooLarge("More than was captured and not yet refunded.")
    claimed = (
        attempts_at(place, order_id)
        .filter(n=attempt_n, captured_amount__gte=F("refund_claimed") + amount)
        .update(refund_claimed=F("refund_claimed") + amount, updated_at=now)
    )
    if claimed != 1:
        raise RefundTooLarge("More than was captured and not yet refunded.")
    last_n = refunds_at(place, order_id).aggregate(last=Max("n"))["last"] or 0
    refunds = Refund.objects.model_for(Month.of_id(order_id), alias=place.alias)
    refund = refunds(
        slot=place.slot,
        order_id=order_id,
        n=last_n + 1,
        attempt_n=attempt_n,
        status=RefundStatus.APPROVED,
        amount=amount,
        currency=attempt.currency,
        reason=reason[:255],
        items=[asdict(item) for item in items],
        unexpected=unexpected,
        created_at=now,
        updated_at=now,
    )
    refund.save(using=place.alias, force_insert=True)
    schedule(place, kind=REFUND, order_id=order_id, n=refund.n, due_at=now, now=now)
    return refund_view(refund)


def refund_order(
    place: Place, *, order_id: int, reason: str, items: Sequence[RefundItem] = (), now: datetime
) -> RefundView:
    """Give back all that was captured for a paid order and is not on its way back yet.

    Raises PaymentNotFound when nothing was captured for it, RefundTooLarge when nothing is left.
    """
    attempt = accepted_attempt(order_id)
    if attempt is None:
        raise PaymentNotFound("Nothing was captured for this order.")
    return create_refund(
        place,
        order_id=order_id,
        attempt_n=attempt.n,
        amount=refundable(captured=attempt.captured_amount, claimed=attempt.refund_claimed),
        reason=reason,
        items=items,
        now=now,
    )


def judge_refund_outcome(refund: RefundView, outcome: RefundOutcome) -> RefundChange:
    """Return what a provider's word does to a refund; writes nothing."""
    expected = Money(refund.amount, refund.currency)
    reaction = refund_reaction_to(refund.status, outcome.status, expected=expected, told=outcome.money)
    return RefundChange(
        n=refund.n,
        before=refund.status,
        after=outcome.status if reaction == RefundReaction.MOVE else refund.status,
        reaction=reaction,
        amount=refund.amount,
        currency=refund.currency,
        unexpected=refund.unexpected,
    )


def apply_refund_change(place: Place, refund: RefundView, change: RefundChange, *, now: datetime) -> None:
    """Write what `judge_refund_outcome` found; a refund that failed gives its claim on the money free.

    Raises AttemptChanged when the refund is not as it was judged.
    """
    written = (
        refunds_at(place, refund.order_id)
        .filter(n=refund.n, status=change.before)
        .update(status=change.after, updated_at=now)
    )
    if written != 1:
        raise AttemptChanged(f"{refund.refund_id} is no longer {change.before}")
    if change.after in VOID_REFUNDS:
        attempts_at(place, refund.order_id).filter(n=refund.attempt_n).update(
            refund_claimed=F("refund_claimed") - refund.amount, updated_at=now
        )
