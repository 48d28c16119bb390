"""From a request to its shopper: the one way for DRF views and for the fast lane.

A bearer token costs no query. A request that another server has signed costs two: to use up its nonce, and to see that
the shopper for whom it acts is neither blocked nor gone.
"""

from datetime import datetime
from typing import Final

from apps.users.access_tokens import access_tokens
from apps.users.errors import TokenInvalid
from apps.users.revocations import revocations
from apps.users.selectors import find_customer
from apps.users.types import Shopper
from infra.api.problems import NotAuthenticated
from infra.errors import PermissionDenied
from infra.http.lane import text_header
from infra.http.messages import LaneRequest
from infra.signing.canonical import is_signature
from infra.signing.verification import caller_of

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


def shopper_of_request(request: LaneRequest, *, now: datetime) -> Shopper:
    """Return for whom a request comes: whom its bearer token names, or for whom the client that signed it acts.

    Raises what `require_shopper` and `shopper_of_client` raise.
    """
    authorization = text_header(request, b"authorization")
    if authorization is not None and is_signature(authorization):
        return shopper_of_client(request, authorization, now=now)
    return require_shopper(authorization, now=now)


def shopper_of_client(request: LaneRequest, authorization: str, *, now: datetime) -> Shopper:
    """Return the shopper for whom a signed request acts.

    Raises RequestSignatureInvalid, PermissionDenied (also for nobody, and for a shopper who is unknown, blocked or
    gone), RateLimited, ValidationFailed.
    """
    caller = caller_of(request, authorization, now=now)
    if caller.on_behalf_of is None:
        raise PermissionDenied("Name the shopper for whom this is asked in On-Behalf-Of.")
    customer = find_customer(caller.on_behalf_of)
    if customer is None or not customer.may_log_in:
        raise PermissionDenied("This client may not act for this shopper.")
    return Shopper(caller.on_behalf_of, session_id="")
