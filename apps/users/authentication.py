"""From an `Authorization` header to a shopper, without any query: the one way for DRF views and for the fast lane."""

from datetime import datetime
from typing import Final

from apps.users.access_tokens import access_tokens
from apps.users.errors import TokenInvalid
from apps.users.revocations import revocations
from apps.users.types import Shopper
from infra.api.problems import NotAuthenticated

_SCHEME: Final = "bearer"


def shopper_of(authorization: str | None, *, now: datetime) -> Shopper | None:
    """Return whom a bearer token names, or None where the header holds none.

    Raises TokenInvalid (also when the session has ended) and TokenExpired. Works from memory: signatures are verified
    once, ended sessions are known from the feed.
    """
    if not authorization:
        return None
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != _SCHEME:
        return None
    shopper = access_tokens.shopper_of(token.strip(), now=now)
    if revocations.has_ended(user_id=shopper.user_id, session_id=shopper.session_id, now=now):
        raise TokenInvalid("The session has ended. Log in again.")
    return shopper


def require_shopper(authorization: str | None, *, now: datetime) -> Shopper:
    """Return whom a bearer token names; raises NotAuthenticated without one, TokenInvalid, TokenExpired."""
    shopper = shopper_of(authorization, now=now)
    if shopper is None:
        raise NotAuthenticated("Send an access token as a bearer token.")
    return shopper
