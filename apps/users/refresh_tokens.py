"""Refresh tokens: derived from a session's row, so that none is stored and a repeat gives the same one.

A token is the URL-safe base64 of: version (1 byte), user id (8), session id (16), generation (4), HMAC-SHA256 (32)
over these and the session's seed.
"""

import base64
import binascii
import hmac
import struct
from dataclasses import dataclass
from typing import Final

from django.conf import settings

_VERSION: Final = 1
_HEAD: Final = struct.Struct(">BQ16sI")
_MAC_BYTES: Final = 32
_LENGTH: Final = _HEAD.size + _MAC_BYTES


@dataclass(frozen=True, slots=True)
class RefreshClaim:
    """What a refresh token says; not proven before `is_genuine` has seen the session's seed."""

    user_id: int
    session_id: str
    generation: int
    mac: bytes

    def is_genuine(self, seed: bytes) -> bool:
        """Tell whether the token was derived from the session with this seed, under any of the keys."""
        head = _head(self.user_id, self.session_id, self.generation)
        return any(hmac.compare_digest(_mac(secret, head, seed), self.mac) for secret in settings.REFRESH_KEYS)


def write_refresh_token(*, user_id: int, session_id: str, generation: int, seed: bytes) -> str:
    """Return the token of one generation of a session."""
    head = _head(user_id, session_id, generation)
    raw = head + _mac(settings.REFRESH_KEYS[0], head, seed)
    return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")


def read_refresh_token(token: str) -> RefreshClaim | None:
    """Return what a token says, or None if it is none."""
    try:
        raw = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
    if len(raw) != _LENGTH:
        return None
    version, user_id, session_id, generation = _HEAD.unpack_from(raw)
    if version != _VERSION or user_id >= 2**63 or generation >= 2**31:
        return None
    return RefreshClaim(user_id, session_id.hex(), generation, raw[_HEAD.size :])


def _head(user_id: int, session_id: str, generation: int) -> bytes:
    return _HEAD.pack(_VERSION, user_id, bytes.fromhex(session_id), generation)


def _mac(secret: str, head: bytes, seed: bytes) -> bytes:
    return hmac.digest(secret.encode("utf-8"), head + seed, "sha256")
