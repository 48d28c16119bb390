"""Decoding of what merchant and shopper send; anything that is not exactly as documented is refused."""

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import parse_qs

from deploy.sandbox.errors import SandboxError, UnsupportedMediaType

OUTCOMES = frozenset({"succeed", "fail", "twice", "silent"})
LONGEST_DELAY_S = 3600

_REFERENCE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,4})?")
_CURRENCY = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True, slots=True)
class PaymentRequest:
    """A merchant's wish to be paid; `amount` stays the merchant's own text, so that it comes back as it was sent."""

    reference: str
    amount: str
    currency: str
    return_url: str
    captures_apart: bool


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """A merchant's wish to give back a part of a payment, or all of it."""

    reference: str
    payment_reference: str
    amount: str
    currency: str


@dataclass(frozen=True, slots=True)
class ShopperChoice:
    """What the shopper at the payment page decides; see docs/payments.md for the four outcomes."""

    outcome: str
    delay_s: float


def payment_request(body: bytes) -> PaymentRequest:
    """Decode the body of POST /v1/payments; raises SandboxError."""
    members = _members(body, required={"reference", "amount", "currency"}, optional={"return_url", "method", "capture"})
    return_url = members.get("return_url", "")
    if not isinstance(return_url, str) or len(return_url) > 2000:
        raise SandboxError("return_url must be a string of at most 2000 characters")
    capture = members.get("capture", "at_once")
    if capture not in ("at_once", "apart"):
        raise SandboxError("capture must be at_once or apart")
    return PaymentRequest(
        reference=_matching(members, "reference", _REFERENCE),
        amount=_amount(members),
        currency=_matching(members, "currency", _CURRENCY),
        return_url=return_url,
        captures_apart=capture == "apart",
    )


def refund_request(body: bytes) -> RefundRequest:
    """Decode the body of POST /v1/refunds; raises SandboxError."""
    members = _members(body, required={"reference", "payment_reference", "amount", "currency"}, optional=set())
    return RefundRequest(
        reference=_matching(members, "reference", _REFERENCE),
        payment_reference=_matching(members, "payment_reference", _REFERENCE),
        amount=_amount(members),
        currency=_matching(members, "currency", _CURRENCY),
    )


def shopper_choice(body: bytes, *, media_type: str) -> ShopperChoice:
    """Decode what was posted to a payment page, by a script (JSON) or by the page's buttons (a form)."""
    if media_type == "application/x-www-form-urlencoded":
        outcomes = parse_qs(body.decode("ascii", "replace")).get("outcome", [""])
        body = json.dumps({"outcome": outcomes[0]}).encode()
    elif media_type != "application/json":
        raise UnsupportedMediaType("send application/json")
    members = _members(body, required={"outcome"}, optional={"delay_s"})
    outcome, delay_s = members["outcome"], members.get("delay_s", 0)
    if not isinstance(outcome, str) or outcome not in OUTCOMES:
        raise SandboxError(f"outcome must be one of {', '.join(sorted(OUTCOMES))}")
    if isinstance(delay_s, bool) or not isinstance(delay_s, int | float) or not 0 <= delay_s <= LONGEST_DELAY_S:
        raise SandboxError(f"delay_s must be a number from 0 to {LONGEST_DELAY_S}")
    return ShopperChoice(outcome, float(delay_s))


def _members(body: bytes, *, required: set[str], optional: set[str]) -> dict[str, object]:
    try:
        members = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise SandboxError("the body is not JSON") from error
    if not isinstance(members, dict):
        raise SandboxError("the body must be a JSON object")
    if missing := required - members.keys():
        raise SandboxError(f"missing: {', '.join(sorted(missing))}")
    if members.keys() - required - optional:
        raise SandboxError(f"the body takes only: {', '.join(sorted(required | optional))}")
    return members


def _matching(members: dict[str, object], name: str, pattern: re.Pattern[str]) -> str:
    value = members[name]
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise SandboxError(f"{name} must be a string that matches {pattern.pattern}")
    return value


def _amount(members: dict[str, object]) -> str:
    amount = _matching(members, "amount", _AMOUNT)
    if Decimal(amount) <= 0:
        raise SandboxError("amount must be above zero")
    return amount
