"""Logging in, refreshing tokens, ending sessions."""

import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models import F

from apps.users.access_tokens import sign_access_token
from apps.users.domain import MalformedLogin, is_hex_id, normalise_login
from apps.users.errors import (
    CredentialsInvalid,
    SessionNotFound,
    TokenExpired,
    TokenInvalid,
    TokenReused,
)
from apps.users.locks import lock_customer
from apps.users.models import Customer, CustomerState, Session, SessionEnd, SessionEndReason
from apps.users.passwords import is_password
from apps.users.refresh_tokens import RefreshClaim, read_refresh_token, write_refresh_token
from apps.users.revocations import revocations
from apps.users.selectors import find_user_id
from apps.users.services.registration import confirm_registration
from apps.users.slowdown import login_slowdown
from apps.users.types import LoginName, TokenPair
from infra.crypto.blind_index import blind_index
from infra.sharding.places import Place, place_of_user

_DEVICE_LENGTH: Final = 200
_SEED_BYTES: Final = 16
_SESSION_ID_BYTES: Final = 16


def log_in(*, login: str, password: str, address: str, device: str, now: datetime) -> TokenPair:
    """Check a password and open a session; the 21st session ends the oldest.

    An unknown login takes the same steps and the same time as a known one. Raises CredentialsInvalid, TooManyFailures
    (for this login from this `address` only), Overloaded.
    """
    name = _normalised(login)
    index = blind_index(name.kind, name.value) if name is not None else blind_index("malformed", login)
    failures = f"{index[0].digest.hex()}:{address}"
    with login_slowdown().attempt(failures, now=now):
        customer = _customer_or_decoy(find_user_id(name) if name is not None else None)
        matches = is_password(password, customer.password if customer is not None else "")
        if customer is None or not matches or not customer.may_log_in:
            raise CredentialsInvalid("Login or password are wrong.")
    if customer.state == CustomerState.REGISTERING:
        confirm_registration(user_id=customer.user_id, now=now)
    return open_session(customer.user_id, password_seen=customer.password, device=device, now=now)


def refresh(*, token: str, now: datetime) -> TokenPair:
    """Spend a refresh token for the next pair.

    Concurrency: compare-and-set on the generation, so of many at once one moves it on and the others, like every
    repeat within the grace and before the successor was used, get that same successor. An older token is reuse: the
    session ends. Raises TokenInvalid, TokenExpired, TokenReused.
    """
    claim = read_refresh_token(token)
    if claim is None:
        raise TokenInvalid("The refresh token is not valid.")
    place = place_of_user(claim.user_id)
    grace = timedelta(seconds=settings.REFRESH_GRACE_S)
    while True:
        session = _genuine_session(place, claim)
        if session.ended_at is not None:
            _refuse_ended(session)
        if session.expires_at <= now:
            raise TokenExpired("The session has expired. Log in again.")
        if claim.generation == session.generation:
            if _move_on(place, session, now):
                return _pair(session, session.generation + 1, now)
            continue  # somebody else moved it on or ended it: look again
        if claim.generation == session.generation - 1 and now - session.rotated_at <= grace:
            return _pair(session, session.generation, now)
        end_session(user_id=session.user_id, session_id=session.id, reason=SessionEndReason.REUSED, now=now)
        raise TokenReused("The refresh token was used before. The session has been ended; log in again.")


def log_out(*, token: str, now: datetime) -> None:
    """End the session of a refresh token, spent or not; a token that is none, or of no session, has no effect."""
    claim = read_refresh_token(token)
    if claim is None:
        return
    try:
        session = _genuine_session(place_of_user(claim.user_id), claim)
    except TokenInvalid:
        return
    end_session(user_id=session.user_id, session_id=session.id, reason=SessionEndReason.LOGOUT, now=now)


def delete_session(*, user_id: int, session_id: str, now: datetime) -> None:
    """End a session of the user; raises SessionNotFound when there is no such live one."""
    can_be_one = is_hex_id(session_id)
    if not can_be_one or not end_session(
        user_id=user_id, session_id=session_id, reason=SessionEndReason.DELETED, now=now
    ):
        raise SessionNotFound("There is no such session.")


def delete_other_sessions(*, user_id: int, keep: str, now: datetime) -> int:
    """End all sessions of the user but one; returns how many."""
    place = place_of_user(user_id)
    with place.atomic():
        return end_all_sessions(place, user_id=user_id, keep=keep, reason=SessionEndReason.DELETED, now=now)


def end_session(*, user_id: int, session_id: str, reason: SessionEndReason, now: datetime) -> bool:
    """End a session and tell all processes; returns False when there is no such live session."""
    place = place_of_user(user_id)
    with place.atomic():
        return bool(_end(place, user_id, [session_id], reason, now))


def end_all_sessions(place: Place, *, user_id: int, keep: str = "", reason: SessionEndReason, now: datetime) -> int:
    """End the user's sessions but `keep`, in the open transaction, which has locked the customer or needs no order."""
    live = Session.objects.at(place).filter(user_id=user_id, ended_at__isnull=True).exclude(id=keep)
    return _end(place, user_id, sorted(live.values_list("id", flat=True)), reason, now)


def open_session(user_id: int, *, password_seen: str | None = None, device: str, now: datetime) -> TokenPair:
    """Write a session, unless the customer was blocked or the password that was checked has changed since.

    Without `password_seen` the customer has proven themselves in another way. The 21st session ends the oldest.
    Raises CredentialsInvalid.
    """
    place = place_of_user(user_id)
    with place.atomic():
        customer = lock_customer(place, user_id)
        if not customer.may_log_in or password_seen not in (None, customer.password):
            raise CredentialsInvalid("Login or password are wrong.")
        live = Session.objects.at(place).filter(user_id=user_id, ended_at__isnull=True, expires_at__gt=now)
        newest_first = list(live.order_by("-created_at", "id").values_list("id", flat=True))
        _end(place, user_id, newest_first[settings.MAX_SESSIONS - 1 :], SessionEndReason.CROWDED_OUT, now)
        session = new_session(slot=place.slot, user_id=user_id, device=device, now=now)
        session.save(using=place.alias, force_insert=True)
    return _pair(session, session.generation, now)


def new_session_id() -> str:
    """Return 128 random bits in hex."""
    return secrets.token_hex(_SESSION_ID_BYTES)


def new_session(*, slot: int, user_id: int, device: str, now: datetime) -> Session:
    """Return a session that is not yet written."""
    return Session(
        slot=slot,
        user_id=user_id,
        id=new_session_id(),
        seed=secrets.token_bytes(_SEED_BYTES),
        device=device[:_DEVICE_LENGTH],
        created_at=now,
        rotated_at=now,
        expires_at=now + timedelta(seconds=settings.REFRESH_TOKEN_LIFETIME_S),
    )


def _normalised(login: str) -> LoginName | None:
    try:
        return normalise_login(login)
    except MalformedLogin:
        return None


def _customer_or_decoy(user_id: int | None) -> Customer | None:
    """Return the customer; without one, read a shard all the same, so that time does not tell."""
    wanted = user_id if user_id is not None else secrets.randbits(62)
    rows = Customer.objects.for_user(wanted).filter(user_id=wanted)
    return rows.only("user_id", "state", "password").first()


def _genuine_session(place: Place, claim: RefreshClaim) -> Session:
    """Return the session that the token was derived from; raises TokenInvalid."""
    session = Session.objects.at(place).filter(user_id=claim.user_id, id=claim.session_id).first()
    if session is None or not claim.is_genuine(bytes(session.seed)) or claim.generation > session.generation:
        raise TokenInvalid("The refresh token is not valid.")
    return session


def _refuse_ended(session: Session) -> None:
    if session.end_reason == SessionEndReason.REUSED:
        raise TokenReused("The session was ended because a refresh token was used twice. Log in again.")
    raise TokenInvalid("The session has ended. Log in again.")


def _move_on(place: Place, session: Session, now: datetime) -> bool:
    """Spend the current generation; returns False when it no longer is."""
    with place.atomic():
        updated = (
            Session.objects.at(place)
            .filter(user_id=session.user_id, id=session.id, generation=session.generation, ended_at__isnull=True)
            .update(
                generation=F("generation") + 1,
                rotated_at=now,
                expires_at=now + timedelta(seconds=settings.REFRESH_TOKEN_LIFETIME_S),
            )
        )
    return bool(updated)


def _pair(session: Session, generation: int, now: datetime) -> TokenPair:
    return TokenPair(
        access=sign_access_token(user_id=session.user_id, session_id=session.id, now=now),
        refresh=write_refresh_token(
            user_id=session.user_id, session_id=session.id, generation=generation, seed=bytes(session.seed)
        ),
        expires_in=settings.ACCESS_TOKEN_LIFETIME_S,
    )


def _end(place: Place, user_id: int, session_ids: Iterable[str], reason: SessionEndReason, now: datetime) -> int:
    """End live sessions and write the feed, in the open transaction; returns how many were live."""
    ended_count = 0
    for session_id in session_ids:
        updated = (
            Session.objects.at(place)
            .filter(user_id=user_id, id=session_id, ended_at__isnull=True)
            .update(ended_at=now, end_reason=reason)
        )
        if not updated:
            continue
        ended_count += 1
        SessionEnd(slot=place.slot, session_id=session_id, ended_at=now).save(using=place.alias, force_insert=True)
        transaction.on_commit(partial(revocations.note, session_id, ended_at=now), using=place.alias)
    return ended_count
