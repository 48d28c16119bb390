"""Slots: the fixed division of users into 1,024 parts, each of which lives on one shard."""

from functools import lru_cache
from hashlib import blake2b
from typing import Final

SLOT_COUNT: Final = 1024


@lru_cache(maxsize=50_000)
def slot_of_user(user_id: int) -> int:
    """Return the slot, 0 to 1023, of a user.

    The first 8 bytes of BLAKE2b (64-byte digest, RFC 7693) of the id as 8 bytes big-endian, read as a big-endian
    integer, modulo 1024. Fixed for good: stored rows depend on it. Raises OverflowError for what is no 64-bit id.
    """
    digest = blake2b(user_id.to_bytes(8, "big")).digest()
    return int.from_bytes(digest[:8], "big") % SLOT_COUNT
