"""Reads and digests keys; no database."""

import json
import re
from hashlib import blake2b
from typing import Final

import msgspec

from infra.errors import FieldError, ValidationFailed
from infra.idempotency.types import RequestKey

HEADER: Final = "Idempotency-Key"
REPLAYED_HEADER: Final = "Idempotency-Replayed"
REPLAYED: Final = (REPLAYED_HEADER.encode("ascii"), b"true")
"""The header of an answer that was given before, for the fast lane."""
_DIGEST_BYTES: Final = 32
_encode_sorted: Final = msgspec.json.Encoder(order="sorted").encode
# For halves of surrogate pairs, which msgspec does not write.
_encode_any: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}\Z")


def request_key(*, user_id: int, method: str, path: str, key: str, body: object) -> RequestKey:
    """Return the key of a request; `body` is the decoded JSON, so that spaces and the order of members do not count."""
    return RequestKey(
        user_id=user_id,
        digest=blake2b(f"{method}\0{path}\0{key}".encode(), digest_size=_DIGEST_BYTES).digest(),
        body_digest=body_digest(body),
    )


def body_digest(body: object) -> bytes:
    """Return 32 bytes that are equal for equal decoded bodies: BLAKE2b of the JSON with sorted members."""
    try:
        canonical = _encode_sorted(body)
    except UnicodeEncodeError:
        canonical = _encode_any(body).encode("ascii")
    return blake2b(canonical, digest_size=_DIGEST_BYTES).digest()


def read_key(key: str | None, *, required: bool) -> str | None:
    """Return the header's value if it is a key, None where none was sent or needed; raises ValidationFailed."""
    if key is None and not required:
        return None
    if key is None:
        code, detail = "required", "This request needs an Idempotency-Key."
    elif _KEY.match(key) is None:
        code, detail = "invalid", "An Idempotency-Key is 1 to 255 visible ASCII characters."
    else:
        return key
    raise ValidationFailed(detail, errors=[FieldError(f"header:{HEADER}", code, detail)])
