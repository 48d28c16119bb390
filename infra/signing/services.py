"""Giving clients their keys, taking keys back, forgetting old nonces."""

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import IntegrityError, transaction

from infra.mysql.retry import is_duplicate_key
from infra.sharding.placement import HOME
from infra.signing.clients import KNOWN_KEYS
from infra.signing.errors import NoSuchKey, TooManyKeys
from infra.signing.models import MAX_KEYS, ApiClientKey, SigningNonce

_SECRET_BYTES: Final = 32
_KEY_ID_BYTES: Final = 8
_PURGE_ROWS: Final = 1000


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key; its secret is shown once."""

    key_id: str
    secret: str


def issue_key(*, client_id: int, actor: str, now: datetime) -> IssuedKey:
    """Give a client another key; raises TooManyKeys when it has two.

    Concurrency: the position of a good key is unique, so that a client has two at most whatever comes at once.
    """
    taken = ApiClientKey.objects.filter(client_id=client_id, position__isnull=False).values_list("position", flat=True)
    free = sorted(set(range(1, MAX_KEYS + 1)) - set(taken))
    if not free:
        raise TooManyKeys("The client has two keys. Revoke one first.")
    issued = IssuedKey(f"fgk_{secrets.token_hex(_KEY_ID_BYTES)}", secrets.token_urlsafe(_SECRET_BYTES))
    key = ApiClientKey(
        key_id=issued.key_id,
        client_id=client_id,
        position=free[0],
        secret=issued.secret,
        created_at=now,
        created_by=actor,
    )
    try:
        with transaction.atomic(using=HOME):
            key.save(force_insert=True)
    except IntegrityError as error:
        if is_duplicate_key(error):
            raise TooManyKeys("The client was given another key just now. Look again.") from error
        raise
    KNOWN_KEYS.refresh()
    return issued


def revoke_key(*, client_id: int, key_id: str, actor: str, now: datetime) -> None:
    """Take a key back and forget its secret; other processes refuse it two seconds later. Raises NoSuchKey."""
    good = ApiClientKey.objects.filter(client_id=client_id, key_id=key_id, position__isnull=False)
    if not good.update(position=None, secret="", revoked_at=now, revoked_by=actor):
        raise NoSuchKey("There is no such key, or it was revoked before.")
    KNOWN_KEYS.refresh()


def purge_nonces(*, now: datetime, max_batches: int = 200) -> int:
    """Delete nonces whose time stamps are too old to be used, in small batches; returns how many."""
    deleted_count = 0
    for _ in range(max_batches):
        old = SigningNonce.objects.filter(expires_at__lt=now).order_by("expires_at")
        digests = list(old.values_list("digest", flat=True)[:_PURGE_ROWS])
        if not digests:
            break
        deleted_count += SigningNonce.objects.filter(digest__in=digests).delete()[0]
    return deleted_count
