"""Refunds, written inside the order's transaction."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final

from django.db.models import F, Max

from apps.payments.domain import (
    MAX_REFUND_TRIES,
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
    approved: bool = True,
    returns_stock: bool = False,
    decided_by: str = "",
    now: datetime,
) -> RefundView:
    """Claim a part of an attempt's money and write the refund: approved, with its execution owed, or only requested.

    Raises RefundTooLarge (what was captured is never passed, by a guarded UPDATE), PaymentNotFound.
    """
    attempt = get_attempt(order_id, attempt_n)
    if attempt is None:
        raise PaymentNotFound("There is no such payment.")
    if amount <= 0 or amount > refundable(captured=attempt.captured_amount, claimed=attempt.refund_claimed):
        raise RefundTooLarge("More than was captured and not yet refunded or requested.")
    claimed = (
        attempts_at(place, order_id)
        .filter(n=attempt_n, captured_amount__gte=F("refund_claimed") + amount)
        .update(refund_claimed=F("refund_claimed") + amount, updated_at=now)
    )
    if claimed != 1:
        raise RefundTooLarge("More than was captured and not yet refunded or requested.")
    last_n = refunds_at(place, order_id).aggregate(last=Max("n"))["last"] or 0
    refunds = Refund.objects.model_for(Month.of_id(order_id), alias=place.alias)
    refund = refunds(
        slot=place.slot,
        order_id=order_id,
        n=last_n + 1,
        attempt_n=attempt_n,
        status=RefundStatus.APPROVED if approved else RefundStatus.REQUESTED,
        amount=amount,
        currency=attempt.currency,
        reason=reason[:255],
        items=[{"sku": item.sku, "quantity": item.quantity, "amount": str(item.amount)} for item in items],
        unexpected=unexpected,
        returns_stock=returns_stock,
        decided_by=decided_by,
        created_at=now,
        updated_at=now,
    )
    refund.save(using=place.alias, force_insert=True)
    if approved:
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


def approve_refund(
    place: Place, refund: RefundView, *, actor: str, reason: str, returns_stock: bool, now: datetime
) -> None:
    """Let a requested refund go ahead, and owe its execution. Raises AttemptChanged if it is not requested any more."""
    _decide(
        place,
        refund,
        {"status": RefundStatus.APPROVED, "returns_stock": returns_stock},
        actor=actor,
        reason=reason,
        now=now,
    )
    schedule(place, kind=REFUND, order_id=refund.order_id, n=refund.n, due_at=now, now=now)


def reject_refund(place: Place, refund: RefundView, *, actor: str, reason: str, now: datetime) -> None:
    """Refuse a requested refund; its money and units can be asked for again. Raises AttemptChanged."""
    _decide(place, refund, {"status": RefundStatus.REJECTED}, actor=actor, reason=reason, now=now)
    _free_claim(place, refund, now=now)


def retry_refund(place: Place, refund: RefundView, *, actor: str, reason: str, now: datetime) -> None:
    """Have the provider try a failed refund once more, under a new reference. Raises AttemptChanged."""
    changes = {"status": RefundStatus.APPROVED, "tries": refund.tries + 1}
    _decide(place, refund, changes, actor=actor, reason=reason, now=now)
    schedule(place, kind=REFUND, order_id=refund.order_id, n=refund.n, due_at=now, now=now)


def settle_refund_outside(place: Place, refund: RefundView, *, actor: str, reason: str, now: datetime) -> None:
    """Note that the staff gave the money of a failed refund back by another way. Raises AttemptChanged."""
    changes = {"status": RefundStatus.SUCCEEDED, "outside": True, "ended_at": now}
    _decide(place, refund, changes, actor=actor, reason=reason, now=now)


def judge_refund_outcome(
    refund: RefundView, outcome: RefundOutcome, *, try_n: int, is_latest: bool = False
) -> RefundChange:
    """Return what a provider's word about a try does to a refund; writes nothing.

    `is_latest`: the provider was asked about this try, and no later one was sent, so that its word counts.
    """
    reaction = refund_reaction_to(
        refund.status,
        outcome.status,
        expected=Money(refund.amount, refund.currency),
        told=outcome.money,
        is_current=is_latest or try_n == refund.tries,
    )
    after, tries = refund.status, refund.tries
    if reaction == RefundReaction.MOVE:
        after, tries = outcome.status, try_n
    elif reaction == RefundReaction.RETRY and tries < MAX_REFUND_TRIES:
        after, tries = RefundStatus.APPROVED, tries + 1
    elif reaction == RefundReaction.RETRY:
        after = RefundStatus.FAILED
    return RefundChange(
        n=refund.n,
        before=refund.status,
        after=after,
        reaction=reaction,
        amount=refund.amount,
        currency=refund.currency,
        unexpected=refund.unexpected,
        tries=tries,
    )


def apply_refund_change(place: Place, refund: RefundView, change: RefundChange, *, now: datetime) -> None:
    """Write what `judge_refund_outcome` found; one that is tried again, or has failed, keeps its claim on the money.

    Raises AttemptChanged when the refund is not as it was judged.
    """
    ended = {"ended_at": now} if change.after == RefundStatus.SUCCEEDED else {}
    _move(place, refund, {"status": change.after, "tries": change.tries, **ended}, now=now)


def _decide(
    place: Place, refund: RefundView, changes: dict[str, object], *, actor: str, reason: str, now: datetime
) -> None:
    _move(place, refund, {**changes, "decided_by": actor, "decision": reason[:255]}, now=now)


def _move(place: Place, refund: RefundView, changes: dict[str, object], *, now: datetime) -> None:
    written = (
        refunds_at(place, refund.order_id)
        .filter(n=refund.n, status=refund.status, tries=refund.tries)
        .update(**changes, updated_at=now)
    )
    if written != 1:
        raise AttemptChanged(f"{refund.refund_id} is no longer {refund.status}")


def _free_claim(place: Place, refund: RefundView, *, now: datetime) -> None:
    attempts_at(place, refund.order_id).filter(n=refund.attempt_n).update(
        refund_claimed=F("refund_claimed") - refund.amount, updated_at=now
    )
