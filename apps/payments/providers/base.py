"""What every payment provider can do, and what its answers may be."""

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Protocol

from apps.payments.types import (
    CallbackNotice,
    Money,
    PaymentKey,
    PaymentOrder,
    PaymentOutcome,
    RefundOrder,
    RefundOutcome,
    SettlementEntry,
)


class Provider(Protocol):
    """A payment provider. Its methods call the network: never inside a transaction.

    Each call ends within the provider's time limit. All raise ProviderTimeout or ProviderUnavailable when the outcome
    is unknown, and ProviderRefused (UnknownAtProvider) when it is known that nothing was done. Creating is idempotent
    by `reference`: the same request again returns the payment or refund as it stands.
    """

    name: str
    account: str
    """Our merchant account there; a callback for another one is not ours."""
    captures_apart: bool
    """Whether payments are only authorized at first, and captured when `capture_payment` says so."""

    def create_payment(self, order: PaymentOrder) -> PaymentOutcome:
        """Open a payment, or return it as it stands."""

    def fetch_payment(self, payment: PaymentKey) -> PaymentOutcome:
        """Return a payment as it stands."""

    def settlement(self, day: date) -> Iterator[SettlementEntry]:
        """Yield the lines of the settlement file of a day (UTC), always in the same order.

        Raises ProviderRefused where the provider has no such file.
        """

    def capture_payment(self, payment: PaymentKey, money: Money) -> PaymentOutcome:
        """Take the money that is held, all of it; idempotent. Returns the payment as it stands then."""

    def cancel_payment(self, payment: PaymentKey) -> PaymentOutcome:
        """Cancel a payment that is not decided yet, or give up the money that is held for it.

        Returns it as it stands then, which may be paid.
        """

    def create_refund(self, order: RefundOrder) -> RefundOutcome:
        """Give money back, or return the refund as it stands."""

    def fetch_refund(self, order: RefundOrder) -> RefundOutcome:
        """Return a refund as it stands."""

    def parse_callback(self, headers: Mapping[str, str], raw_body: bytes, *, now: datetime) -> CallbackNotice:
        """Verify a callback and read it; no network. Raises SignatureInvalid, CallbackMalformed.

        `headers` ignores case. Staleness is judged by `now`.
        """
