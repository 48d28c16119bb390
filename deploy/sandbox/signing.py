"""Signatures of callbacks and the merchant's key, both derived from the one shared secret.

The scheme is that of Stripe's webhooks (docs.stripe.com/webhooks, "Verify manually"): a header
``t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>." + raw body>``, made afresh for each delivery, so that the receiver may
judge staleness.
"""

import hashlib
import hmac

SIGNATURE_HEADER = "Sandbox-Signature"


def signature_header(*, secret: str, body: bytes, at_s: int) -> str:
    """Return the value of `Sandbox-Signature` for one delivery at `at_s` (Unix seconds)."""
    digest = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"


def merchant_key(secret: str) -> str:
    """Return the bearer token of the merchant's API; it is not the signing secret, which never travels."""
    return hmac.new(secret.encode(), b"merchant-api-key", hashlib.sha256).hexdigest()
