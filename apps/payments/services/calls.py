"""Calls to the providers: never inside a transaction, and never with a write of their own."""

from apps.payments.domain import AttemptStatus, RefundStatus
from apps.payments.errors import UnknownAtProvider
from apps.payments.providers.registry import get_provider
from apps.payments.types import AttemptView, PaymentOrder, PaymentOutcome, RefundOrder, RefundOutcome, RefundView


def ask_provider(attempt: AttemptView) -> PaymentOutcome:
    """Bring the provider in line with an attempt, and return its word about it.

    A pending attempt is created there (idempotent by its id), an open one fetched, one that was closed here without
    money is cancelled there, which returns it as it stands. Raises ProviderTimeout, ProviderUnavailable,
    ProviderRefused.
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
    if attempt.status in (AttemptStatus.CANCELLED, AttemptStatus.FAILED):
        try:
            return provider.cancel_payment(attempt.payment_id)
        except UnknownAtProvider:
            return PaymentOutcome(AttemptStatus.CANCELLED)  # it was closed before the provider heard of it
    return provider.fetch_payment(attempt.payment_id)


def execute_refund(refund: RefundView, *, provider: str) -> RefundOutcome:
    """Have the provider give the money back (idempotent by the refund's id), and return its word about it.

    Raises ProviderTimeout, ProviderUnavailable, ProviderRefused.
    """
    client = get_provider(provider)
    if refund.status == RefundStatus.APPROVED:
        order = RefundOrder(
            reference=refund.refund_id,
            payment_reference=refund.payment_id,
            amount=refund.amount,
            currency=refund.currency,
        )
        return client.create_refund(order)
    return client.fetch_refund(refund.refund_id)
