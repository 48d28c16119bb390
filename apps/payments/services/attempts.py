"""Attempts to pay an order, written inside the order's transaction."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from django.conf import settings
from django.db.models import Max

from apps.payments.domain import (
    FIRST_POLL_S,
    OPEN_ATTEMPTS,
    AttemptStatus,
    Money,
    Reaction,
    is_allowed_return_url,
    reaction_to,
)
from apps.payments.errors import AttemptChanged
from apps.payments.models import Attempt
from apps.payments.providers.registry import find_provider, provider_names
from apps.payments.selectors import attempt_view, attempts_at
from apps.payments.services.refunds import create_refund
from apps.payments.types import AttemptChange, AttemptView, PaymentOutcome, RefundView
from infra.errors import FieldError, LimitReached, ValidationFailed
from infra.followups.services import schedule
from infra.sharding.months import Month
from infra.sharding.places import Place

POLL: Final = "payment_poll"
"""Kind of the follow-up that asks the provider about an attempt (`n` is the attempt's)."""


def check_choice(*, provider: str, return_url: str) -> None:
    """Raise ValidationFailed for a provider that is not offered or a return address that is not allowed."""
    errors = []
    if find_provider(provider) is None:
        offered = ", ".join(provider_names())
        errors.append(FieldError("/provider", "unknown_provider", f"Choose one of: {offered}."))
    if return_url and not is_allowed_return_url(return_url, allowed=settings.PAYMENT_RETURN_URLS):
        errors.append(FieldError("/return_url", "not_allowed", "This address is not on the list of return addresses."))
    if errors:
        raise ValidationFailed("This payment cannot be started.", errors=errors)


def create_attempt(
    place: Place,
    *,
    order_id: int,
    amount: Decimal,
    currency: str,
    provider: str,
    method: str,
    return_url: str,
    expires_at: datetime | None,
    now: datetime,
) -> AttemptView:
    """Write a new attempt in state `pending`, which supersedes the open ones, and owe its polls.

    Raises LimitReached. Concurrency: the caller's compare-and-set on the order keeps two from getting one number.
    """
    last_n = attempts_at(place, order_id).aggregate(last=Max("n"))["last"] or 0
    if last_n >= settings.PAYMENT_MAX_ATTEMPTS:
        raise LimitReached("There were too many attempts to pay this order.")
    cancel_open_attempts(place, order_id=order_id, superseded=True, now=now)
    attempts = Attempt.objects.model_for(Month.of_id(order_id), alias=place.alias)
    attempt = attempts(
        slot=place.slot,
        order_id=order_id,
        n=last_n + 1,
        status=AttemptStatus.PENDING,
        provider=provider,
        method=method,
        amount=amount,
        currency=currency,
        return_url=return_url,
        expires_at=expires_at,
        created_at=now,
        updated_at=now,
    )
    attempt.save(using=place.alias, force_insert=True)
    schedule(place, kind=POLL, order_id=order_id, n=attempt.n, due_at=now + timedelta(seconds=FIRST_POLL_S), now=now)
    return attempt_view(attempt)


def cancel_open_attempts(place: Place, *, order_id: int, now: datetime, superseded: bool = False) -> list[int]:
    """Close the attempts that can still be paid, and owe their cancellation at the provider; return their numbers.

    Called when the order is closed or paid, and before a new attempt. Money that comes all the same is given back.
    """
    open_ns = list(
        attempts_at(place, order_id).filter(status__in=OPEN_ATTEMPTS).order_by("n").values_list("n", flat=True)
    )
    for n in open_ns:
        attempts_at(place, order_id).filter(n=n, status__in=OPEN_ATTEMPTS).update(
            status=AttemptStatus.CANCELLED, superseded=superseded, updated_at=now
        )
        schedule(place, kind=POLL, order_id=order_id, n=n, due_at=now, now=now)
    return open_ns


def judge_outcome(
    attempt: AttemptView, outcome: PaymentOutcome, *, takes_money: bool, takes_hold: bool
) -> AttemptChange:
    """Return what a provider's word does to an attempt; writes nothing.

    `takes_money`: whether the order is open and unpaid, so that money of this attempt would pay it. Money that it
    cannot take, and that of a superseded attempt, is `unexpected`. `takes_hold`: whether it is not authorized yet
    either. Money that is held and that it has no use for is given up: the attempt is cancelled.
    """
    expected = Money(attempt.amount, attempt.currency)
    reaction = reaction_to(attempt.status, outcome.status, expected=expected, told=outcome.money)
    changed = reaction in (Reaction.MOVE, Reaction.AUTHORIZE, Reaction.CAPTURE)
    useless = reaction == Reaction.AUTHORIZE and (attempt.superseded or not takes_hold)
    told = AttemptStatus.CANCELLED if useless else outcome.status
    return AttemptChange(
        n=attempt.n,
        before=attempt.status,
        after=told if changed else attempt.status,
        reaction=reaction,
        amount=attempt.amount,
        currency=attempt.currency,
        unexpected=reaction == Reaction.CAPTURE and (attempt.superseded or not takes_money),
    )


def apply_change(
    place: Place,
    attempt: AttemptView,
    change: AttemptChange,
    *,
    redirect_url: str = "",
    provider_id: str = "",
    now: datetime,
) -> RefundView | None:
    """Write what `judge_outcome` found; unexpected money gets its refund in the same transaction, which is returned.

    Raises AttemptChanged when the attempt is not as it was judged (the caller rolls back and judges anew).
    """
    changes: dict[str, object] = {"status": change.after, "updated_at": now}
    if redirect_url and change.after in OPEN_ATTEMPTS:
        changes["redirect_url"] = redirect_url
    if provider_id:
        changes["provider_id"] = provider_id
    if change.captured:
        changes |= {"captured_amount": change.amount, "captured_at": now, "unexpected": change.unexpected}
    written = (
        attempts_at(place, attempt.order_id)
        .filter(n=attempt.n, status=change.before, superseded=attempt.superseded)
        .update(**changes)
    )
    if written != 1:
        raise AttemptChanged(f"{attempt.payment_id} is no longer {change.before}")
    if change.reaction == Reaction.AUTHORIZE and change.after == AttemptStatus.CANCELLED:
        schedule(place, kind=POLL, order_id=attempt.order_id, n=attempt.n, due_at=now, now=now)  # gives up the hold
    if not change.unexpected:
        return None
    return create_refund(
        place,
        order_id=attempt.order_id,
        attempt_n=attempt.n,
        amount=change.amount,
        reason="Paid when the order could no longer take it.",
        unexpected=True,
        now=now,
    )


def owe_capture(place: Place, attempt: AttemptView, *, now: datetime) -> None:
    """Have the money that is held captured from now on. Raises AttemptChanged when it is not held any more."""
    written = (
        attempts_at(place, attempt.order_id)
        .filter(n=attempt.n, status=AttemptStatus.AUTHORIZED)
        .update(capture_owed=True, updated_at=now)
    )
    if written != 1:
        raise AttemptChanged(f"{attempt.payment_id} is no longer authorized")
    schedule(place, kind=POLL, order_id=attempt.order_id, n=attempt.n, due_at=now, now=now)
