"""Pure rules of payments: states, what a provider's word does to them, and the bounds of money. No I/O, no Django."""

import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Final, NamedTuple
from urllib.parse import urlsplit


class AttemptStatus(StrEnum):
    """Where an attempt to pay stands; a provider's word about a payment uses the same list."""

    PENDING = "pending"
    REQUIRES_ACTION = "requires_action"
    PROCESSING = "processing"
    AUTHORIZED = "authorized"
    """The money is held at the provider, and not ours before it is captured."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RefundStatus(StrEnum):
    """Where a refund stands; `requested` and `rejected` are for refunds that the staff decide on."""

    REQUESTED = "requested"
    APPROVED = "approved"
    REJECTED = "rejected"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


OPEN_ATTEMPTS: Final = frozenset(
    {AttemptStatus.PENDING, AttemptStatus.REQUIRES_ACTION, AttemptStatus.PROCESSING, AttemptStatus.AUTHORIZED}
)
"""States that are neither paid nor closed: money may come, and is meant to."""

OPEN_REFUNDS: Final = frozenset({RefundStatus.APPROVED, RefundStatus.PROCESSING})
"""States in which the provider still has to act."""

VOID_REFUNDS: Final = frozenset({RefundStatus.REJECTED})
"""States that set no money and no units aside: a refund that failed still has to be made good by the staff."""

DECIDED_REFUNDS: Final = frozenset(RefundStatus) - VOID_REFUNDS - {RefundStatus.REQUESTED}
"""States in which it is settled that the money goes back, or has."""


class Reaction(StrEnum):
    """What a provider's word about a payment does to the attempt."""

    MOVE = "move"
    """The attempt takes the reported state."""
    AUTHORIZE = "authorize"
    """Money is held: the order is authorized, or the hold is given back where the order has no use for it."""
    CAPTURE = "capture"
    """Money has come: the attempt succeeds, and the order decides whether it was expected."""
    IGNORE = "ignore"
    """A repeat, or news older than what is known."""
    CONTRADICTION = "contradiction"
    """The word takes back what was final. Nothing changes; the staff are alerted."""
    MISMATCH = "mismatch"
    """Amount or currency are not those of the attempt. Nothing changes; the staff are alerted."""


_PENDING, _ACTION, _PROCESSING, _AUTHORIZED, _SUCCEEDED, _FAILED, _CANCELLED = AttemptStatus
_MOVE, _AUTHORIZE, _CAPTURE, _IGNORE, _CONTRADICTION = (
    Reaction.MOVE,
    Reaction.AUTHORIZE,
    Reaction.CAPTURE,
    Reaction.IGNORE,
    Reaction.CONTRADICTION,
)

# Rows: what is known; columns: what the provider says. Words arrive late, twice and out of order; the one thing that
# is never overlooked is money that came, and the one thing never believed is that money which came did not.
REACTIONS: Final[Mapping[AttemptStatus, Mapping[AttemptStatus, Reaction]]] = {
    known: dict(zip(AttemptStatus, reactions, strict=True))
    for known, reactions in {
        #             pending  requires_action  processing  authorized  succeeded  failed          cancelled
        _PENDING:    (_IGNORE, _MOVE,           _MOVE,      _AUTHORIZE, _CAPTURE,  _MOVE,          _MOVE),
        _ACTION:     (_IGNORE, _IGNORE,         _MOVE,      _AUTHORIZE, _CAPTURE,  _MOVE,          _MOVE),
        _PROCESSING: (_IGNORE, _IGNORE,         _IGNORE,    _AUTHORIZE, _CAPTURE,  _MOVE,          _MOVE),
        _AUTHORIZED: (_IGNORE, _IGNORE,         _IGNORE,    _IGNORE,    _CAPTURE,  _MOVE,          _MOVE),
        _SUCCEEDED:  (_IGNORE, _IGNORE,         _IGNORE,    _IGNORE,    _IGNORE,   _CONTRADICTION, _CONTRADICTION),
        _FAILED:     (_IGNORE, _IGNORE,         _IGNORE,    _AUTHORIZE, _CAPTURE,  _IGNORE,        _IGNORE),
        _CANCELLED:  (_IGNORE, _IGNORE,         _IGNORE,    _IGNORE,    _CAPTURE,  _IGNORE,        _IGNORE),
    }.items()
}  # fmt: skip


class CallbackResult(StrEnum):
    """What became of a callback; the last two are for the staff to look at."""

    APPLIED = "applied"
    IGNORED = "ignored"
    CONTRADICTION = "contradiction"
    MISMATCH = "mismatch"


class DifferenceKind(StrEnum):
    """On what a provider's settlement file and the ledger do not agree."""

    MISSING_HERE = "missing_here"
    """The provider moved money, and the ledger does not know yet: a callback that never came. Mended by asking."""
    MISSING_THERE = "missing_there"
    """The ledger says that money moved, and the file does not."""
    AMOUNT = "amount"
    """Both know of it, with other money."""
    DOUBLED = "doubled"
    """Money moved twice: told again on another day, or beside a try or another way that went through."""
    CONTRADICTION = "contradiction"
    """Money went back for a refund that was not to be, or was given up."""
    UNKNOWN = "unknown"
    """The ledger has nothing under this reference."""


class DifferenceState(StrEnum):
    """Whether somebody still has to look at a difference."""

    OPEN = "open"
    MENDED = "mended"
    RESOLVED = "resolved"


class Money(NamedTuple):
    """An amount and its currency."""

    amount: Decimal
    currency: str


def reaction_to(known: AttemptStatus, reported: AttemptStatus, *, expected: Money, told: Money | None) -> Reaction:
    """Return what a provider's word does to an attempt over `expected`; `told` is None where it names no money."""
    if told is not None and told != expected:
        return Reaction.MISMATCH
    return REACTIONS[known][reported]


class RefundReaction(StrEnum):
    """What a provider's word about a refund does to it."""

    MOVE = "move"
    """The refund takes the reported state."""
    RETRY = "retry"
    """It failed: tried again under another reference, until the tries are spent; then it is the staff's."""
    IGNORE = "ignore"
    CONTRADICTION = "contradiction"
    MISMATCH = "mismatch"


REFUND_WORDS: Final = (RefundStatus.PROCESSING, RefundStatus.SUCCEEDED, RefundStatus.FAILED)
"""What a provider can say about a refund."""

_R_MOVE, _RETRY, _R_IGNORE, _R_CONTRADICTION = (
    RefundReaction.MOVE,
    RefundReaction.RETRY,
    RefundReaction.IGNORE,
    RefundReaction.CONTRADICTION,
)

# Rows: what is known; columns: what the provider says about the try under way.
REFUND_REACTIONS: Final[Mapping[RefundStatus, Mapping[RefundStatus, RefundReaction]]] = {
    known: dict(zip(REFUND_WORDS, reactions, strict=True))
    for known, reactions in {
        #                         processing  succeeded         failed
        RefundStatus.REQUESTED:  (_R_IGNORE,  _R_CONTRADICTION, _R_CONTRADICTION),
        RefundStatus.APPROVED:   (_R_MOVE,    _R_MOVE,          _RETRY),
        RefundStatus.REJECTED:   (_R_IGNORE,  _R_CONTRADICTION, _R_CONTRADICTION),
        RefundStatus.PROCESSING: (_R_IGNORE,  _R_MOVE,          _RETRY),
        RefundStatus.SUCCEEDED:  (_R_IGNORE,  _R_IGNORE,        _R_CONTRADICTION),
        RefundStatus.FAILED:     (_R_IGNORE,  _R_CONTRADICTION, _R_IGNORE),
    }.items()
}  # fmt: skip


def refund_reaction_to(
    known: RefundStatus, reported: RefundStatus, *, expected: Money, told: Money | None, is_current: bool = True
) -> RefundReaction:
    """Return what a provider's word (one of `REFUND_WORDS`) does to a refund of `expected`.

    `is_current` is false for a word about a try that has failed before: that it failed is known, and that it went
    through after all contradicts it, since the money may go back twice.
    """
    if told is not None and told != expected:
        return RefundReaction.MISMATCH
    if not is_current:
        return RefundReaction.CONTRADICTION if reported == RefundStatus.SUCCEEDED else RefundReaction.IGNORE
    return REFUND_REACTIONS[known][reported]


_REFUND_TRY_DELAYS_S: Final = (5, 60, 600, 3600)
MAX_REFUND_TRIES: Final = len(_REFUND_TRY_DELAYS_S) + 1
"""So often a refund is tried by itself; each further try is one that the staff ask for."""


def refund_try_delay_s(tries: int) -> float:
    """Return how long the try of that number waits after the failure before it."""
    return _REFUND_TRY_DELAYS_S[tries - 2] if 1 < tries <= MAX_REFUND_TRIES else 0.0


def refundable(*, captured: Decimal, claimed: Decimal) -> Decimal:
    """Return what can still be given back of an attempt: captured and not yet claimed by a refund."""
    return max(captured - claimed, Decimal(0))


# -- references: names of rows that providers and shoppers get, from which the order is found again ----------------

_REFERENCE: Final = re.compile(r"(pay|re)_([1-9][0-9]{0,18})_([1-9][0-9]{0,3})(?:_t([2-9]|[1-9][0-9]{1,2}))?")
_MAX_ORDER_ID: Final = 2**63 - 1


class Reference(NamedTuple):
    """What a payment or refund id names; `try_n` is above 1 only in what a provider knows a repeated refund by."""

    is_refund: bool
    order_id: int
    n: int
    try_n: int = 1


def payment_id(order_id: int, n: int) -> str:
    """Return the id of an attempt: also the provider's reference and its idempotency key."""
    return f"pay_{order_id}_{n}"


def refund_id(order_id: int, n: int) -> str:
    """Return the id of a refund: also the provider's reference and idempotency key of its first try."""
    return f"re_{order_id}_{n}"


def refund_try_id(order_id: int, n: int, try_n: int) -> str:
    """Return the provider's reference and idempotency key of a try: what failed there stays failed under its own."""
    return refund_id(order_id, n) if try_n == 1 else f"{refund_id(order_id, n)}_t{try_n}"


def parse_reference(text: str) -> Reference | None:
    """Return what an id names, or None if it names nothing of ours."""
    match = _REFERENCE.fullmatch(text)
    if match is None or int(match[2]) > _MAX_ORDER_ID or (match[4] and match[1] == "pay"):
        return None
    return Reference(match[1] == "re", int(match[2]), int(match[3]), int(match[4] or 1))


# -- return addresses -------------------------------------------------------------------------------------------------


def is_allowed_return_url(url: str, *, allowed: Collection[str]) -> bool:
    """Tell whether a shopper may be sent back to `url`: same origin as an allowed address, and within its path.

    Origins are compared as parsed, not as text: `https://shop.example.evil.net` and `https://shop.example@evil.net`
    begin like `https://shop.example` and lead elsewhere.
    """
    if not _PLAIN_URL.fullmatch(url):
        return False
    wanted = _origin_and_path(url)
    if wanted is None:
        return False
    for entry in allowed:
        known = _origin_and_path(entry)
        if known is not None and wanted[0] == known[0] and _is_within(wanted[1], known[1]):
            return True
    return False


_PLAIN_URL: Final = re.compile(r"https?://[\x21-\x5b\x5d-\x7e]{1,1990}")


def _origin_and_path(url: str) -> tuple[tuple[str, str, int | None], str] | None:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None
    if parts.username is not None or not parts.hostname or ".." in parts.path.split("/"):
        return None
    return (parts.scheme, parts.hostname, port), parts.path


def _is_within(path: str, prefix: str) -> bool:
    folder = prefix.rstrip("/")
    return path == folder or path.startswith(folder + "/") or not folder


# -- polling ----------------------------------------------------------------------------------------------------------

FIRST_POLL_S: Final = 20
_HELD_POLL_S: Final = 3600
_WATCH_CLOSED_S: Final = 24 * 3600


def next_poll_s(status: AttemptStatus, *, age_s: float, capture_owed: bool = False) -> float | None:
    """Return in how many seconds the provider is asked again, or None for never.

    An open attempt is asked about every 20 s, so that a silent success is found within 60 s; one whose money is held
    only hourly, for the hold may lapse. One that was closed without money is watched for a day, ever more rarely, since
    a cancellation can lose against the shopper; `age_s` is the time since it was closed.
    """
    if status == AttemptStatus.AUTHORIZED and not capture_owed:
        return _HELD_POLL_S
    if status in OPEN_ATTEMPTS:
        return FIRST_POLL_S
    if status == AttemptStatus.SUCCEEDED or age_s > _WATCH_CLOSED_S:
        return None
    return max(FIRST_POLL_S, age_s / 2)
