"""Frozen values that cross the border of payments."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from apps.payments.domain import (
    DECIDED_REFUNDS,
    OPEN_ATTEMPTS,
    OPEN_REFUNDS,
    VOID_REFUNDS,
    AttemptStatus,
    CallbackResult,
    DifferenceKind,
    DifferenceState,
    Money,
    Reaction,
    Reference,
    RefundReaction,
    RefundStatus,
    payment_id,
    refund_id,
)

__all__ = [
    "DECIDED_REFUNDS",
    "OPEN_ATTEMPTS",
    "OPEN_REFUNDS",
    "VOID_REFUNDS",
    "AttemptChange",
    "AttemptStatus",
    "AttemptView",
    "CallbackNotice",
    "CallbackResult",
    "DifferenceKind",
    "DifferenceState",
    "FoundDifference",
    "Money",
    "PaymentKey",
    "PaymentOrder",
    "PaymentOutcome",
    "Reaction",
    "Reference",
    "RefundChange",
    "RefundItem",
    "RefundOrder",
    "RefundOutcome",
    "RefundReaction",
    "RefundStatus",
    "RefundView",
    "SettlementEntry",
    "refund_id",
]


class PaymentKey(NamedTuple):
    """A payment at its provider: by our reference, and by the provider's own id where it has one and it is known."""

    reference: str
    provider_id: str = ""


@dataclass(frozen=True, slots=True)
class PaymentOrder:
    """What a provider is asked to collect; `reference` is its idempotency key."""

    reference: str
    amount: Decimal
    currency: str
    method: str
    return_url: str


@dataclass(frozen=True, slots=True)
class RefundOrder:
    """What a provider is asked to give back; `reference` is its idempotency key."""

    reference: str
    payment: PaymentKey
    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class PaymentOutcome:
    """A provider's word about a payment; `money` is None where it names none."""

    status: AttemptStatus
    money: Money | None = None
    redirect_url: str = ""
    provider_id: str = ""


@dataclass(frozen=True, slots=True)
class RefundOutcome:
    """A provider's word about a refund: `processing`, `succeeded` or `failed`."""

    status: RefundStatus
    money: Money | None = None


@dataclass(frozen=True, slots=True)
class CallbackNotice:
    """A callback whose signature was good: who tells what about which reference, under which event id."""

    provider: str
    account: str
    event_id: str
    reference: str
    outcome: PaymentOutcome | RefundOutcome
    raw_body: bytes


@dataclass(frozen=True, slots=True)
class AttemptChange:
    """What a provider's word did to an attempt; `unexpected` money is already on its way back."""

    n: int
    before: AttemptStatus
    after: AttemptStatus
    reaction: Reaction
    amount: Decimal
    currency: str
    unexpected: bool = False

    @property
    def captured(self) -> bool:
        """Whether money has come by this change."""
        return self.reaction == Reaction.CAPTURE

    @property
    def authorized(self) -> bool:
        """Whether money is held for the order by this change."""
        return self.reaction == Reaction.AUTHORIZE and self.after == AttemptStatus.AUTHORIZED

    @property
    def lost_hold(self) -> bool:
        """Whether money that was held for the order is no longer."""
        return self.before == AttemptStatus.AUTHORIZED and self.reaction == Reaction.MOVE

    @property
    def changed(self) -> bool:
        """Whether the attempt's row was written."""
        return self.reaction in (Reaction.MOVE, Reaction.AUTHORIZE, Reaction.CAPTURE)

    @property
    def alerts(self) -> bool:
        """Whether the staff have to look at it."""
        return self.reaction in (Reaction.CONTRADICTION, Reaction.MISMATCH)


@dataclass(frozen=True, slots=True)
class RefundChange:
    """What a provider's word did to a refund; `unexpected` money never was the order's. `tries` is as after it."""

    n: int
    before: RefundStatus
    after: RefundStatus
    reaction: RefundReaction
    amount: Decimal
    currency: str
    unexpected: bool
    tries: int

    @property
    def changed(self) -> bool:
        """Whether the refund's row was written."""
        return self.reaction in (RefundReaction.MOVE, RefundReaction.RETRY)

    @property
    def alerts(self) -> bool:
        """Whether the staff have to look at it: money that should be back and is not, or the reverse."""
        failed = self.changed and self.after == RefundStatus.FAILED
        return failed or self.reaction in (RefundReaction.CONTRADICTION, RefundReaction.MISMATCH)


@dataclass(frozen=True, slots=True)
class AttemptView:
    """An attempt as its shopper sees it (the API contract's payment), and what the use cases need of it."""

    order_id: int
    n: int
    payment_id: str
    provider: str
    method: str
    status: AttemptStatus
    amount: Decimal
    currency: str
    captured_amount: Decimal
    refund_claimed: Decimal
    unexpected: bool
    superseded: bool
    capture_owed: bool
    provider_id: str
    redirect_url: str
    return_url: str
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @property
    def key(self) -> PaymentKey:
        """What the provider knows it by."""
        return PaymentKey(self.payment_id, self.provider_id)


@dataclass(frozen=True, slots=True)
class RefundItem:
    """So many of one SKU, given back, and what of the refund is for them (nothing where it was not split)."""

    sku: str
    quantity: int
    amount: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class RefundView:
    """A refund as its shopper sees it, and what the use cases need of it."""

    order_id: int
    n: int
    refund_id: str
    attempt_n: int
    status: RefundStatus
    amount: Decimal
    currency: str
    reason: str
    items: tuple[RefundItem, ...]
    unexpected: bool
    tries: int
    returns_stock: bool
    outside: bool
    decided_by: str
    decision: str
    created_at: datetime
    updated_at: datetime

    @property
    def payment_id(self) -> str:
        """The id of the attempt whose money goes back."""
        return payment_id(self.order_id, self.attempt_n)


@dataclass(frozen=True, slots=True)
class SettlementEntry:
    """A line of a provider's settlement file: money that came, or went back, under a reference of ours."""

    reference: str
    is_refund: bool
    money: Money
    at: datetime


@dataclass(frozen=True, slots=True)
class FoundDifference:
    """What a comparison finds; see `DifferenceKind`."""

    kind: DifferenceKind
    reference: str
    ours: str
    theirs: str
    since: datetime
