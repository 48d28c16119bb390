"""Encrypts and decrypts personal data with the data keys (setting `DATA_KEYS`).

A stored value is `<key id>.<Fernet token>`. Fernet (github.com/fernet/spec) is AES-128-CBC with HMAC-SHA256. The key
id, a digest of the key, lets a value be decrypted with its own key at once and lets a rotation see in SQL which rows
are still under an old one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

_KEY_ID_BYTES: Final = 4
SEPARATOR: Final = "."


class Undecryptable(Exception):
    """A stored value was altered, or its key is no longer among the data keys."""


@dataclass(frozen=True, slots=True)
class _KeyRing:
    current_id: str
    by_id: Mapping[str, Fernet]


def encrypt_text(text: str) -> str:
    """Return the text under the current data key, in ASCII; equal texts give different results."""
    ring = _key_ring()
    token = ring.by_id[ring.current_id].encrypt(text.encode("utf-8"))
    return f"{ring.current_id}{SEPARATOR}{token.decode('ascii')}"


def decrypt_text(sealed: str) -> str:
    """Return what `encrypt_text` was given; raises Undecryptable."""
    key_id, _, token = sealed.partition(SEPARATOR)
    fernet = _key_ring().by_id.get(key_id)
    if fernet is None:
        raise Undecryptable(f"The data key {key_id[:8]!r} is not among the configured ones.")
    try:
        return fernet.decrypt(token.encode("ascii")).decode("utf-8")
    except (InvalidToken, UnicodeEncodeError) as error:
        raise Undecryptable("The stored value has been altered.") from error


def current_key_id() -> str:
    """Return the id of the key that encrypts now."""
    return _key_ring().current_id


def is_current(sealed: str) -> bool:
    """Tell whether a stored value is under the current key; an empty one needs none."""
    return not sealed or sealed.startswith(current_key_id() + SEPARATOR)


def _key_ring() -> _KeyRing:
    return _ring_of(tuple(settings.DATA_KEYS))


@lru_cache(maxsize=8)
def _ring_of(keys: Sequence[str]) -> _KeyRing:
    if not keys:
        raise ImproperlyConfigured("FLOODGATE_DATA_KEYS names no key.")
    ids = [blake2b(key.encode("utf-8"), digest_size=_KEY_ID_BYTES).hexdigest() for key in keys]
    try:
        return _KeyRing(ids[0], {key_id: Fernet(key) for key_id, key in zip(ids, keys, strict=True)})
    except ValueError as error:
        raise ImproperlyConfigured("A key in FLOODGATE_DATA_KEYS is not 32 bytes in URL-safe base64.") from error
