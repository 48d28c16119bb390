"""Proving an e-mail address or phone by the code sent to it, which makes it a login.

The directory decides, since uniqueness is there; the shard is told next. A verification that was accepted stays until
the shard knows, so that a crash between the two is finished by `settle_verifications`.
"""

import hmac
import logging
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import OperationalError, transaction

from apps.users.errors import CredentialsInvalid, CustomerNotFound, LoginTaken
from apps.users.events import LOGIN_VERIFIED, UPDATED, advance_customer
from apps.users.locks import lock_customer, lock_identity, lock_verifications
from apps.users.models import DIRECTORY, Login, SessionEndReason, Verification
from apps.users.selectors import find_user_id, verified_logins
from apps.users.senders.base import Notice
from apps.users.services.account_holding import free_logins
from apps.users.services.directory import code_digests, insert_login
from apps.users.services.notices import tell
from apps.users.services.registration import confirm_registration
from apps.users.services.sessions import end_all_sessions
from apps.users.types import LoginKind, LoginName
from infra.crypto.blind_index import blind_index
from infra.mysql.retry import with_deadlock_retry
from infra.sharding.places import place_of_user

_log: Final = logging.getLogger(__name__)
_SETTLE_AFTER: Final = timedelta(seconds=10)
_BATCH: Final = 500


def verify_login(*, login: LoginName, code: str, now: datetime) -> None:
    """Make the e-mail address or phone a login of the user to whom this code was sent.

    Raises CredentialsInvalid for a code that is wrong, expired, used or tried too often, and LoginTaken when the login
    has meanwhile become somebody else's.
    Concurrency: a code works once; tries are counted under row locks, so that parallel guesses get no extra ones.
    """
    accepted = with_deadlock_retry(lambda: _accept(login, code, now))
    if accepted is None:
        raise CredentialsInvalid("The code is not valid.")
    tell_shard(accepted, now)


def settle_verifications(*, now: datetime) -> int:
    """Tell the shards of accepted verifications that a crash left untold; returns how many. Dead shards wait."""
    untold = Verification.objects.filter(accepted_at__lt=now - _SETTLE_AFTER).order_by("id")[:_BATCH]
    settled_count = 0
    dead: set[str] = set()
    for verification in untold:
        alias = place_of_user(verification.user_id).alias
        if alias in dead:
            continue
        try:
            tell_shard(verification, now)
        except OperationalError:
            _log.warning("%s cannot be told of a verified login now", alias, exc_info=True)
            dead.add(alias)
        else:
            settled_count += 1
    return settled_count


def tell_shard(verification: Verification, now: datetime) -> None:
    """Write what the directory has decided on the customer's row, then forget the verification. Idempotent.

    With the first proof by a code of the owner's own, the password, the sessions and the unproven e-mail address that
    were there before end. Who loses a login is told at what the account had before.
    """
    confirm_registration(user_id=verification.user_id, now=now)
    try:
        to_tell = _write_on_shard(verification, LoginKind(verification.kind), now)
    except CustomerNotFound:  # the account was ended meanwhile
        free_logins(verification.user_id)
        return
    Verification.objects.filter(id=verification.id).delete()
    tell(to_tell, Notice.LOGIN_CHANGED)


def _write_on_shard(verification: Verification, kind: LoginKind, now: datetime) -> list[LoginName]:
    """Write the login on the customer's row; returns who is to be told that another one is gone for it.

    Concurrency: the directory is asked under the lock of the customer, so that a change that was accepted before
    another one, and is told after it, has no effect.
    """
    user_id, value = verification.user_id, verification.value
    place = place_of_user(user_id)
    with place.atomic():
        customer = lock_customer(place, user_id)
        proven_before = verified_logins(customer)
        is_told = value == next((login.value for login in proven_before if login.kind is kind), "")
        if (is_told and (value or not getattr(customer, kind))) or not _is_decided(verification, kind):
            return []
        changes: dict[str, object] = {kind: value}
        if kind is not LoginKind.USERNAME:
            changes[f"{kind}_verified_at"] = now if value else None
        if verification.is_first_proof:
            changes |= {"password": "", "email": ""}
            end_all_sessions(place, user_id=user_id, reason=SessionEndReason.FIRST_PROOF, now=now)
        if value and kind is not LoginKind.USERNAME:
            advance_customer(place, customer, event=LOGIN_VERIFIED, payload={"kind": kind}, now=now, **changes)
        else:
            advance_customer(place, customer, event=UPDATED, payload={"changed": [kind]}, now=now, **changes)
    return proven_before if any(login.kind is kind for login in proven_before) else []


def _is_decided(verification: Verification, kind: LoginKind) -> bool:
    """Tell whether the directory still says what was accepted; a later change may have overtaken it."""
    if verification.value:
        return find_user_id(LoginName(kind, verification.value)) == verification.user_id
    return not Login.objects.filter(user_id=verification.user_id, kind=kind).exists()


def _accept(login: LoginName, code: str, now: datetime) -> Verification | None:
    """Make the login the user's in one transaction of the directory, or count a failed try."""
    expected = [entry.digest for entry in code_digests(login, code)]
    with transaction.atomic(using=DIRECTORY):
        is_open = [
            verification
            for verification in lock_verifications(blind_index(login.kind, login.value))
            if verification.expires_at > now and verification.try_count < settings.CODE_MAX_TRIES
        ]
        matching = [
            verification
            for verification in is_open
            if any(hmac.compare_digest(bytes(verification.code_digest), digest) for digest in expected)
        ]
        if not matching:
            for verification in is_open:
                verification.try_count += 1
                verification.save(update_fields=["try_count"])
            return None
        verification = matching[0]
        lock_identity(verification.user_id)
        owner_id = find_user_id(login)
        if owner_id not in (None, verification.user_id):
            raise LoginTaken("The login is in use.")
        if owner_id is None:
            Login.objects.filter(user_id=verification.user_id, kind=login.kind).delete()
            insert_login(login, user_id=verification.user_id, now=now)
        verification.accepted_at = now
        verification.save(update_fields=["accepted_at"])
    return verification
