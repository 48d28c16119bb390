"""Writes of the directory that registration and verification share; all inside the caller's transaction there."""

from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import IntegrityError

from apps.users.errors import LoginTaken
from apps.users.models import Login, Verification
from apps.users.types import LoginName
from infra.crypto.blind_index import IndexDigest, blind_index
from infra.mysql.retry import is_duplicate_key

# Codes of one login that may be open at once: a guess is tried on all of them, and anybody may ask for one.
_MAX_OPEN_VERIFICATIONS: Final = 5


def insert_login(login: LoginName, *, user_id: int, now: datetime) -> None:
    """Write a login under all index keys; raises LoginTaken."""
    rows = [
        Login(digest=entry.digest, kind=login.kind, key_id=entry.key_id, user_id=user_id, created_at=now)
        for entry in blind_index(login.kind, login.value)
    ]
    try:
        Login.objects.bulk_create(sorted(rows, key=lambda row: row.digest))
    except IntegrityError as error:
        if is_duplicate_key(error):
            raise LoginTaken("The login is in use.") from error
        raise


def insert_verification(login: LoginName, *, code: str, user_id: int, now: datetime) -> None:
    """Write that a code was made for a login of this user; the oldest of too many open ones gives way."""
    digest = blind_index(login.kind, login.value)[0].digest
    open_ids = Verification.objects.filter(digest=digest, accepted_at__isnull=True).order_by("-id")
    crowded_out = list(open_ids.values_list("id", flat=True)[_MAX_OPEN_VERIFICATIONS - 1 :])
    if crowded_out:
        Verification.objects.filter(id__in=crowded_out).delete()
    Verification(
        kind=login.kind,
        digest=digest,
        user_id=user_id,
        value=login.value,
        code_digest=code_digests(login, code)[0].digest,
        created_at=now,
        expires_at=now + timedelta(seconds=settings.CODE_LIFETIME_S),
    ).save(force_insert=True)


def code_digests(login: LoginName, code: str) -> list[IndexDigest]:
    """Return the keyed digests of a code sent to a login; without a key a million codes are tried in a second."""
    return blind_index("code", f"{login.kind}:{login.value}:{code}")


def accept_login(login: LoginName, *, user_id: int, is_first_proof: bool = False, now: datetime) -> Verification:
    """Write that a login has become this user's and that the shard is to be told (`verification.tell_shard`)."""
    return _accept(login, login.value, user_id, is_first_proof, now)


def accept_removal(login: LoginName, *, user_id: int, now: datetime) -> Verification:
    """Write that this user no longer has the login, nor another of its kind, and that the shard is to be told."""
    return _accept(login, "", user_id, False, now)


def _accept(login: LoginName, value: str, user_id: int, is_first_proof: bool, now: datetime) -> Verification:
    accepted = Verification(
        kind=login.kind,
        digest=blind_index(login.kind, login.value)[0].digest,
        user_id=user_id,
        value=value,
        code_digest=b"",
        created_at=now,
        expires_at=now,
        accepted_at=now,
        is_first_proof=is_first_proof,
    )
    accepted.save(force_insert=True)
    return accepted
