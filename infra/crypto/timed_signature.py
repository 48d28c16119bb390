"""Signatures over a time and a body, as Stripe's webhooks have them (docs.stripe.com/webhooks, "Verify manually").

A header `t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>." + raw body>`, made afresh for each delivery, so that the
receiver may judge staleness.
"""

import hashlib
import hmac
import re
from datetime import datetime
from typing import Final

_SIGNATURE: Final = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})")


class BadSignature(ValueError):
    """The header is missing or malformed, does not match the body, or is stale; the text says which."""


def check_signature(header: str, raw_body: bytes, *, secret: bytes, max_age_s: float, now: datetime) -> None:
    """Raise BadSignature unless the body was signed with the secret, less than `max_age_s` seconds before or after."""
    match = _SIGNATURE.fullmatch(header)
    if match is None:
        raise BadSignature("The signature is missing or malformed.")
    signed_at_s, signature = match.groups()
    wanted = hmac.new(secret, f"{signed_at_s}.".encode() + raw_body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(wanted, signature):
        raise BadSignature("The signature does not match the body.")
    if abs(now.timestamp() - int(signed_at_s)) > max_age_s:
        raise BadSignature("The signature is stale.")
