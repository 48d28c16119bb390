"""Decoding of what merchant and shopper send; anything that is not exactly as documented is refused."""

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import parse_qs

from deploy.sandbox.errors import SandboxError, UnsupportedMediaType

OUTCOMES = frozenset({"succeed", "fail", "twice", "silent"})
LONGEST_DELAY_S = 3600
STEPS = frozenset({"handed_over", "in_transit", "out_for_delivery", "exception", "delivered"})
MOST_TIMES = 10

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


@dataclass(frozen=True, slots=True)
class ParcelRequest:
    """A merchant's wish to have a parcel brought; to whom is looked at and not kept."""

    reference: str
    pieces: int


@dataclass(frozen=True, slots=True)
class Scan:
    """A step of a parcel's way; its event is sent `times` times, after `delay_s`."""

    status: str
    place: str
    delay_s: float
    times: int


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
    members = _members(_json_of(body, media_type, name="outcome"), required={"outcome"}, optional={"delay_s"})
    outcome = members["outcome"]
    if not isinstance(outcome, str) or outcome not in OUTCOMES:
        raise SandboxError(f"outcome must be one of {', '.join(sorted(OUTCOMES))}")
    return ShopperChoice(outcome, _delay_s(members))


def parcel_request(body: bytes) -> ParcelRequest:
    """Decode the body of POST /v1/parcels; raises SandboxError."""
    members = _members(body, required={"reference", "to", "pieces"}, optional=set())
    to = members["to"]
    if not isinstance(to, dict) or not all(isinstance(value, str) for value in to.values()) or not to.get("country"):
        raise SandboxError("to must be an address of strings, with a country")
    return ParcelRequest(_matching(members, "reference", _REFERENCE), _whole(members, "pieces", most=100_000))


def scan(body: bytes, *, media_type: str) -> Scan:
    """Decode what was posted to a parcel's page, by a script (JSON) or by the page's buttons (a form)."""
    members = _members(
        _json_of(body, media_type, name="status"), required={"status"}, optional={"place", "delay_s", "times"}
    )
    status, place = members["status"], members.get("place", "")
    if not isinstance(status, str) or status not in STEPS:
        raise SandboxError(f"status must be one of {', '.join(sorted(STEPS))}")
    if not isinstance(place, str) or len(place) > 100:
        raise SandboxError("place must be a string of at most 100 characters")
    members.setdefault("times", 1)
    return Scan(status, place, _delay_s(members), _whole(members, "times", most=MOST_TIMES))


def _json_of(body: bytes, media_type: str, *, name: str) -> bytes:
    """Return a JSON body as it is, and a form's one field of that name as JSON."""
    if media_type == "application/x-www-form-urlencoded":
        values = parse_qs(body.decode("ascii", "replace")).get(name, [""])
        return json.dumps({name: values[0]}).encode()
    if media_type != "application/json":
        raise UnsupportedMediaType("send application/json")
    return body


def _delay_s(members: dict[str, object]) -> float:
    delay_s = members.get("delay_s", 0)
    if isinstance(delay_s, bool) or not isinstance(delay_s, int | float) or not 0 <= delay_s <= LONGEST_DELAY_S:
        raise SandboxError(f"delay_s must be a number from 0 to {LONGEST_DELAY_S}")
    return float(delay_s)


def _whole(members: dict[str, object], name: str, *, most: int) -> int:
    value = members[name]
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise SandboxError(f"{name} must be a whole number from 1 to {most}")
    return value


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
