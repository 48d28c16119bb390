"""Calls to the providers: never inside a transaction, and never with a write of their own."""

from collections.abc import Iterator
from datetime import date

from apps.payments.domain import AttemptStatus, Money, RefundStatus, refund_try_id
from apps.payments.errors import UnknownAtProvider
from apps.payments.providers.registry import get_provider
from apps.payments.types import (
    AttemptView,
    PaymentOrder,
    PaymentOutcome,
    RefundOrder,
    RefundOutcome,
    RefundView,
    SettlementEntry,
)


def ask_provider(attempt: AttemptView) -> PaymentOutcome:
    """Bring the provider in line with an attempt, and return its word about it.

    A pending attempt is created there (idempotent by its id), an open one fetched, one whose capture is owed captured,
    and one that was closed here without money is cancelled there, which returns it as it stands. Raises
    ProviderTimeout, ProviderUnavailable, ProviderRefused.
    """
    provider = get_provider(attempt.provider)
    if attempt.status == AttemptStatus.PENDING:
        order = PaymentOrder(
            reference=attempt.payment_id,
            amount=attempt.amount,
            currency=attempt.currency,
            method=attempt.method,
            return_url=attempt.return_url,
        )
        return provider.create_payment(order)
    if attempt.status == AttemptStatus.AUTHORIZED and attempt.capture_owed:
        return provider.capture_payment(attempt.key, Money(attempt.amount, attempt.currency))
    if attempt.status in (AttemptStatus.CANCELLED, AttemptStatus.FAILED):
        try:
            return provider.cancel_payment(attempt.key)
        except UnknownAtProvider:
            return PaymentOutcome(AttemptStatus.CANCELLED)  # it was closed before the provider heard of it
    return provider.fetch_payment(attempt.key)


def execute_refund(refund: RefundView, attempt: AttemptView) -> RefundOutcome:
    """Have the provider give the money back (idempotent by the try's reference), and return its word about it.

    Raises ProviderTimeout, ProviderUnavailable, ProviderRefused.
    """
    client = get_provider(attempt.provider)
    order = _refund_order(refund, attempt, refund.tries)
    return client.create_refund(order) if refund.status == RefundStatus.APPROVED else client.fetch_refund(order)


def ask_about_payment(attempt: AttemptView) -> PaymentOutcome:
    """Return the provider's word about an attempt in whatever state. Raises as `ask_provider`."""
    return get_provider(attempt.provider).fetch_payment(attempt.key)


def ask_about_refund(refund: RefundView, attempt: AttemptView, *, try_n: int) -> RefundOutcome:
    """Return the provider's word about one try of a refund. Raises as `ask_provider`."""
    return get_provider(attempt.provider).fetch_refund(_refund_order(refund, attempt, try_n))


def ask_about_failed_try(refund: RefundView, attempt: AttemptView) -> RefundOutcome:
    """Return the provider's word about the try before the one that is due: only what failed there is tried again.

    Raises ProviderTimeout, ProviderUnavailable, ProviderRefused.
    """
    try:
        return ask_about_refund(refund, attempt, try_n=refund.tries - 1)
    except UnknownAtProvider:
        return RefundOutcome(RefundStatus.FAILED)  # it was refused, and nothing was written there


def read_settlement(provider: str, day: date) -> Iterator[SettlementEntry]:
    """Yield the lines of a provider's settlement file. Raises ProviderTimeout, ProviderUnavailable, ProviderRefused."""
    return get_provider(provider).settlement(day)


def _refund_order(refund: RefundView, attempt: AttemptView, try_n: int) -> RefundOrder:
    return RefundOrder(
        reference=refund_try_id(refund.order_id, refund.n, try_n),
        payment=attempt.key,
        amount=refund.amount,
        currency=refund.currency,
    )
