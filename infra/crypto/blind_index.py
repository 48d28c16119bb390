"""Keyed blind indexes: a value is found by its digest, and the digest tells nothing without the key.

HMAC-SHA256 over kind and value, under keys of their own (setting `INDEX_KEYS`), so that who has the tables and the
data keys cannot try out telephone numbers, and who has the index keys cannot read the data.
"""

import hmac
from dataclasses import dataclass
from typing import Final

from django.conf import settings

DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class IndexDigest:
    """The digest of a value under one index key."""

    key_id: str
    digest: bytes


def blind_index(kind: str, value: str) -> list[IndexDigest]:
    """Return the digests of a normalised value under all index keys, the first key's first.

    While a key is being replaced there are two: both are written, both are unique, and a search takes either.
    """
    message = f"{kind}\0{value}".encode()
    return [
        IndexDigest(key_id, hmac.digest(secret.encode("utf-8"), message, "sha256"))
        for key_id, secret in settings.INDEX_KEYS
    ]


def index_key_ids() -> list[str]:
    """Return the ids of the configured index keys, the first one first."""
    return [key_id for key_id, _ in settings.INDEX_KEYS]
