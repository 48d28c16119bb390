"""Paying an order: its start, a provider's word about it, refunds, and callbacks.

Payments' rows and the order move in one transaction on the order's shard: first the order (its compare-and-set is the
lock), then the payment. The provider is called outside of it, always with a row committed before that names the call,
so that a crash on either side of the call loses nothing: the key's repeat or the poll makes the same call again.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final, TypeVar

from apps.orders.domain import OrderStatus, PaymentStatus
from apps.orders.errors import OrderChanged, OrderNotPayable
from apps.orders.events import (
    AUTHORIZED,
    CAPTURE_REQUESTED,
    PAID,
    PAYMENT_FAILED,
    PAYMENT_STARTED,
    PAYMENT_UNEXPECTED,
    PAYMENT_UPDATED,
    REFUND_FAILED,
)
from apps.orders.models import Order
from apps.orders.selectors import find_order, get_order_row
from apps.orders.services.holds import require_not_held
from apps.orders.services.points import settle_points
from apps.orders.services.refunds import (
    kind_after_refund,
    note_refunded_quantities,
    order_after_refund,
    refund_payload,
)
from apps.orders.services.stock import owe_stock_change
from apps.orders.services.transitions import advance
from apps.orders.types import PaymentRequest, StartedPayment
from apps.payments import services as payments
from apps.payments.errors import (
    AttemptChanged,
    CallbackMalformed,
    CallbackRepeated,
    PaymentNotFound,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnavailable,
)
from apps.payments.selectors import accepted_attempt, authorized_attempt, get_attempt, get_refund
from apps.payments.types import (
    AttemptChange,
    AttemptStatus,
    AttemptView,
    CallbackNotice,
    CallbackResult,
    PaymentOutcome,
    Reaction,
    Reference,
    RefundChange,
    RefundOutcome,
    RefundReaction,
    RefundStatus,
    RefundView,
)
from infra.errors import Overloaded
from infra.idempotency.errors import KeyTaken
from infra.idempotency.services import complete, find_answer, remember
from infra.mysql.retry import with_deadlock_retry
from infra.sharding.places import Place, place_of_order

_log = logging.getLogger(__name__)

_MAX_TRIES: Final = 8
T = TypeVar("T")


def start_payment(request: PaymentRequest, *, render: Callable[[AttemptView], bytes], now: datetime) -> StartedPayment:
    """Open an attempt to pay, which supersedes an open one, and have the provider create it; once for its key.

    `render` makes the answer that is kept under the key. Raises OrderNotFound, OrderNotPayable, ValidationFailed
    (provider, return address), LimitReached, IdempotencyKeyReused; ProviderTimeout or ProviderUnavailable when the
    provider's answer is missing: the attempt stays, and the repeat of the key goes on with it.
    Concurrency: any number of requests with one key make one attempt, and one payment at the provider.
    """
    place = place_of_order(request.order_id)
    opened = _retry(lambda: _open_attempt(place, request, now=now))
    if opened.answer is not None:
        return StartedPayment(body=opened.answer, replayed=True)
    attempt = opened.attempt
    if attempt.status == AttemptStatus.PENDING:
        try:
            outcome = payments.ask_provider(attempt)
        except ProviderRefused:
            outcome = PaymentOutcome(AttemptStatus.FAILED)
        record_payment_outcome(order_id=attempt.order_id, n=attempt.n, outcome=outcome, now=now)
        attempt = _existing_attempt(attempt.order_id, attempt.n)
    body = render(attempt)
    with place.atomic():
        complete(place, request.key, status=201, body=body)
    return StartedPayment(body=body, replayed=opened.was_there)


def capture_payment(*, order_id: int, reason: str, actor: str, now: datetime) -> AttemptView:
    """Capture the money that is held for an order: when its shipping starts, or when the staff say so.

    Returns the attempt, `succeeded` where the provider has answered; where it has not, the capture is owed and tried
    until it is done. Idempotent: a capture that is done or owed is not begun again. Raises OrderNotPayable when nothing
    is held, OrderHeld while the staff hold the order back.
    Concurrency: against a cancellation, whichever comes first wins; money that is captured all the same is given back.
    """
    attempt = _record(order_id, lambda place: _owe_capture(place, order_id, reason=reason, actor=actor, now=now))
    if attempt.status == AttemptStatus.AUTHORIZED:
        try:
            outcome = payments.ask_provider(attempt)
        except (ProviderTimeout, ProviderUnavailable, ProviderRefused):
            _log.warning("the capture of %s is left to the poll", attempt.payment_id, exc_info=True)
        else:
            record_payment_outcome(order_id=order_id, n=attempt.n, outcome=outcome, now=now)
    return _existing_attempt(order_id, attempt.n)


def record_payment_outcome(*, order_id: int, n: int, outcome: PaymentOutcome, now: datetime) -> AttemptChange:
    """Move an attempt and its order by a provider's word that was asked for.

    Raises PaymentNotFound. Idempotent: a word that is known already writes nothing. Concurrency: compare-and-set on
    the order's version; a lost race is judged anew.
    """
    change = _record(order_id, lambda place: _move_payment(place, order_id, n, outcome, now=now))
    if change.alerts:
        _alert_attempt(_existing_attempt(order_id, n), change, outcome)
    return change


def record_refund_outcome(
    *, order_id: int, n: int, try_n: int, outcome: RefundOutcome, is_latest: bool = False, now: datetime
) -> RefundChange:
    """Move a refund and its order by a provider's word about a try; promises as `record_payment_outcome`.

    `is_latest`: no later try was sent, so that the word about this one counts.
    """
    about = Reference(is_refund=True, order_id=order_id, n=n, try_n=try_n)
    change = _record(order_id, lambda place: _move_refund(place, about, outcome, is_latest=is_latest, now=now))
    if change.alerts:
        _alert_refund(_existing_refund(order_id, n), change, outcome)
    return change


def receive_callback(
    *, provider: str, headers: Mapping[str, str], raw_body: bytes, now: datetime
) -> CallbackResult | None:
    """Verify a provider's delivery and commit it together with its effect; None for one that was stored before.

    Raises SignatureInvalid, CallbackMalformed, PaymentNotFound (no such provider, unknown reference). A delivery for
    another merchant account, or with other money than the attempt's, is stored without effect and the staff are told.
    Concurrency: of identical deliveries at once, one is applied.
    """
    notice = payments.read_callback(provider, headers=headers, raw_body=raw_body, now=now)
    reference = payments.parse_reference(notice.reference)
    if reference is None:
        raise PaymentNotFound("There is no payment under this reference.")
    if reference.is_refund != isinstance(notice.outcome, RefundOutcome):
        raise CallbackMalformed("The reference is not of the kind that the event tells of.")
    if not reference.is_refund:
        _existing_attempt(reference.order_id, reference.n)
    elif reference.try_n > _existing_refund(reference.order_id, reference.n).tries:
        raise PaymentNotFound("There is no such refund.")
    try:
        result = _record(reference.order_id, lambda place: _apply_notice(place, notice, reference, now=now))
    except CallbackRepeated:
        payments.count_callback(notice, "repeated")
        return None
    payments.count_callback(notice, result)
    if result in (CallbackResult.CONTRADICTION, CallbackResult.MISMATCH):
        payments.alert_staff(
            provider=notice.provider, kind=result, reference=notice.reference, detail=f"event {notice.event_id}"
        )
    elif reference.is_refund and _existing_refund(reference.order_id, reference.n).status == RefundStatus.FAILED:
        payments.alert_staff(
            provider=notice.provider, kind="refund_failed", reference=notice.reference, detail="all tries are spent"
        )
    return result


# -- one transaction each ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Opened:
    """The attempt of a key: written now or found, with the answer kept under the key once there was one."""

    attempt: AttemptView
    was_there: bool = False
    answer: bytes | None = None


def _open_attempt(place: Place, request: PaymentRequest, *, now: datetime) -> _Opened:
    try:
        with place.atomic():
            answer = find_answer(place, request.key)
            if answer is None:
                return _Opened(_write_attempt(place, request, now=now))
    except KeyTaken:
        answer = find_answer(place, request.key)
    if answer is None:  # the attempt that had the key was rolled back between our two looks
        raise OrderChanged(f"order {request.order_id}")
    reference = payments.parse_reference(answer.resource_id)
    if reference is None:
        raise ValueError(f"{answer.resource_id!r} names no payment")
    return _Opened(_existing_attempt(reference.order_id, reference.n), was_there=True, answer=answer.body)


def _write_attempt(place: Place, request: PaymentRequest, *, now: datetime) -> AttemptView:
    order = get_order_row(user_id=request.key.user_id, order_id=request.order_id)
    payments.check_choice(provider=request.provider, return_url=request.return_url)
    if order.status != OrderStatus.PENDING_PAYMENT or (order.expires_at is not None and order.expires_at <= now):
        raise OrderNotPayable("Only an order that waits for its payment can be paid.")
    if not order.total:
        raise OrderNotPayable("This order costs nothing; it is paid by itself.")
    if order.payment_status == PaymentStatus.AUTHORIZED:
        raise OrderNotPayable("The payment of this order is authorized already.")
    advance(place, order, changes={}, kind=PAYMENT_STARTED, actor="shopper", detail=request.provider, now=now)
    attempt = payments.create_attempt(
        place,
        order_id=order.id,
        amount=Decimal(order.total),
        currency=order.currency,
        provider=request.provider,
        method=request.method,
        return_url=request.return_url,
        expires_at=order.expires_at,
        now=now,
    )
    remember(place, request.key, resource_id=attempt.payment_id, now=now)
    return attempt


def _owe_capture(place: Place, order_id: int, *, reason: str, actor: str, now: datetime) -> AttemptView:
    order = _existing_order(order_id)
    if (paid := accepted_attempt(order_id)) is not None:
        return paid
    held = authorized_attempt(order_id)
    if held is None or order.payment_status != PaymentStatus.AUTHORIZED:
        raise OrderNotPayable("No money is held for this order.")
    if held.capture_owed:
        return held
    advance(
        place,
        order,
        changes={},
        kind=CAPTURE_REQUESTED,
        actor=actor,
        detail=reason[:255],
        now=now,
        payload={"payment_id": held.payment_id, "amount": str(held.amount), "currency": held.currency},
    )
    require_not_held(place, order_id)
    payments.owe_capture(place, held, now=now)
    return _existing_attempt(order_id, held.n)


def _move_payment(place: Place, order_id: int, n: int, outcome: PaymentOutcome, *, now: datetime) -> AttemptChange:
    order, attempt = _existing_order(order_id), _existing_attempt(order_id, n)
    waits = order.status == OrderStatus.PENDING_PAYMENT
    change = payments.judge_outcome(
        attempt, outcome, takes_money=waits, takes_hold=waits and order.payment_status == PaymentStatus.UNPAID
    )
    if not change.changed:
        return change
    payload = {
        "payment_id": attempt.payment_id,
        "payment": str(change.after),
        "amount": str(change.amount),
        "currency": change.currency,
    }
    pays = change.captured and not change.unexpected
    advance(
        place,
        order,
        changes=_order_after_payment(order, change, pays=pays, now=now),
        kind=_kind_of(change),
        actor=f"provider:{attempt.provider}",
        detail=f"{attempt.payment_id}: {change.after}",
        now=now,
        payload=payload,
    )
    payments.apply_change(
        place, attempt, change, redirect_url=outcome.redirect_url, provider_id=outcome.provider_id, now=now
    )
    if pays:
        payments.cancel_open_attempts(place, order_id=order_id, now=now)
        owe_stock_change(place, order_id, now=now)
    return change


def _move_refund(
    place: Place, about: Reference, outcome: RefundOutcome, *, is_latest: bool = False, now: datetime
) -> RefundChange:
    order, refund = _existing_order(about.order_id), _existing_refund(about.order_id, about.n)
    change = payments.judge_refund_outcome(refund, outcome, try_n=about.try_n, is_latest=is_latest)
    if not change.changed:
        return change
    changes = order_after_refund(order, refund) if _gives_back(change) else {}
    refunded = advance(
        place,
        order,
        changes=changes,
        kind=REFUND_FAILED if change.after == RefundStatus.FAILED else kind_after_refund(changes),
        actor="provider",
        detail=f"{refund.refund_id}: {change.after}",
        now=now,
        payload=refund_payload(refund, change.after),
    )
    payments.apply_refund_change(place, refund, change, now=now)
    if _gives_back(change):
        note_refunded_quantities(place, refund)
        settle_points(place, refunded, refund_n=refund.n, now=now)
    return change


def _apply_notice(place: Place, notice: CallbackNotice, about: Reference, *, now: datetime) -> CallbackResult:
    """Apply a delivery and store it; raises CallbackRepeated, which undoes both."""
    if payments.callback_was_seen(place, notice):
        raise CallbackRepeated(notice.event_id)
    if not payments.is_own_account(notice):
        result = CallbackResult.MISMATCH
    elif isinstance(notice.outcome, RefundOutcome):
        result = _REFUND_RESULTS[_move_refund(place, about, notice.outcome, now=now).reaction]
    else:
        moved = _move_payment(place, about.order_id, about.n, notice.outcome, now=now)
        result = _PAYMENT_RESULTS[moved.reaction]
    payments.store_callback(place, notice, order_id=about.order_id, result=result, now=now)
    return result


_PAYMENT_RESULTS: Final[Mapping[Reaction, CallbackResult]] = {
    Reaction.MOVE: CallbackResult.APPLIED,
    Reaction.AUTHORIZE: CallbackResult.APPLIED,
    Reaction.CAPTURE: CallbackResult.APPLIED,
    Reaction.IGNORE: CallbackResult.IGNORED,
    Reaction.CONTRADICTION: CallbackResult.CONTRADICTION,
    Reaction.MISMATCH: CallbackResult.MISMATCH,
}
_REFUND_RESULTS: Final[Mapping[RefundReaction, CallbackResult]] = {
    RefundReaction.MOVE: CallbackResult.APPLIED,
    RefundReaction.RETRY: CallbackResult.APPLIED,
    RefundReaction.IGNORE: CallbackResult.IGNORED,
    RefundReaction.CONTRADICTION: CallbackResult.CONTRADICTION,
    RefundReaction.MISMATCH: CallbackResult.MISMATCH,
}


# -- parts ------------------------------------------------------------------------------------------------------------


def _record(order_id: int, move: Callable[[Place], T]) -> T:
    """Run `move` in a transaction on the order's place, again where somebody else was first."""
    place = place_of_order(order_id)

    def transaction() -> T:
        with place.atomic():
            return move(place)

    return _retry(lambda: with_deadlock_retry(transaction))


def _retry(transaction: Callable[[], T]) -> T:
    for _ in range(_MAX_TRIES):
        try:
            return transaction()
        except (OrderChanged, AttemptChanged):
            continue
    raise Overloaded("The order is being changed by too many at once. Nothing was taken.")


def _order_after_payment(order: Order, change: AttemptChange, *, pays: bool, now: datetime) -> dict[str, object]:
    """Return what a provider's word about a payment changes in the order."""
    if pays:
        return {"payment_status": PaymentStatus.PAID, "paid_at": now}
    if change.authorized:
        return {"payment_status": PaymentStatus.AUTHORIZED}
    if change.lost_hold and order.payment_status == PaymentStatus.AUTHORIZED:
        return {"payment_status": PaymentStatus.UNPAID}
    return {}


def _kind_of(change: AttemptChange) -> str:
    if change.captured:
        return PAYMENT_UNEXPECTED if change.unexpected else PAID
    if change.authorized:
        return AUTHORIZED
    return PAYMENT_FAILED if change.after == AttemptStatus.FAILED else PAYMENT_UPDATED


def _gives_back(change: RefundChange) -> bool:
    """Tell whether the order's own money has gone back by this change."""
    return change.after == RefundStatus.SUCCEEDED and not change.unexpected


def _existing_order(order_id: int) -> Order:
    order = find_order(order_id)
    if order is None:
        raise PaymentNotFound("There is no such order.")
    return order


def _existing_attempt(order_id: int, n: int) -> AttemptView:
    attempt = get_attempt(order_id, n)
    if attempt is None:
        raise PaymentNotFound("There is no such payment.")
    return attempt


def _existing_refund(order_id: int, n: int) -> RefundView:
    refund = get_refund(order_id, n)
    if refund is None:
        raise PaymentNotFound("There is no such refund.")
    return refund


def _alert_attempt(attempt: AttemptView, change: AttemptChange, outcome: PaymentOutcome) -> None:
    payments.alert_staff(
        provider=attempt.provider,
        kind=change.reaction,
        reference=attempt.payment_id,
        detail=f"known as {change.before}, told {outcome.status} {outcome.money}",
    )


def _alert_refund(refund: RefundView, change: RefundChange, outcome: RefundOutcome) -> None:
    payments.alert_staff(
        provider=_existing_attempt(refund.order_id, refund.attempt_n).provider,
        kind="refund_failed" if change.changed else change.reaction,
        reference=refund.refund_id,
        detail=f"known as {change.before}, told {outcome.status} {outcome.money}",
    )
