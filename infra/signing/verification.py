"""From a signed request to the client behind it and the shopper it acts for; for DRF views and the fast lane alike."""

import hmac
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Final

from django.conf import settings
from django.db import IntegrityError, transaction

from infra.api.fields import id_from_text
from infra.errors import FieldError, PermissionDenied, RateLimited, ValidationFailed
from infra.http.lane import text_header
from infra.http.messages import LaneRequest
from infra.mysql.retry import is_duplicate_key
from infra.sharding.placement import HOME
from infra.signing.canonical import ON_BEHALF_OF, Credentials, canonical_string, read_credentials, sign
from infra.signing.clients import CLIENT_REQUESTS, KNOWN_KEYS, KnownClient
from infra.signing.errors import RequestSignatureInvalid
from infra.signing.models import SigningNonce

_ON_BEHALF_OF: Final = ON_BEHALF_OF.lower().encode("ascii")
_READING: Final = frozenset({"GET", "HEAD"})
_API: Final = "/api/v1/"


@dataclass(frozen=True, slots=True)
class SignedCaller:
    """Who a signed request comes from (`request.user` where no shopper is meant), and for whom."""

    client: KnownClient
    on_behalf_of: int | None

    @property
    def is_authenticated(self) -> bool:
        """A caller always is; Django's and DRF's parts ask."""
        return True


def caller_of(request: LaneRequest, authorization: str, *, now: datetime) -> SignedCaller:
    """Return whom a request with a header of this scheme comes from.

    Raises RequestSignatureInvalid, PermissionDenied (scope, whom it acts for), RateLimited, ValidationFailed.
    Concurrency: a nonce is a unique row, so of one request sent twice at once one passes. It is written last, so that
    only genuine requests within their limits cost a write.
    """
    credentials = read_credentials(authorization)
    if credentials is None:
        raise RequestSignatureInvalid("The Authorization header is malformed.")
    on_behalf_of = text_header(request, _ON_BEHALF_OF) or ""
    client = _genuine_client(request, credentials, on_behalf_of, now)
    user_id = _user_id(on_behalf_of)
    scope = required_scope(request.method, request.path)
    if scope not in client.scopes:
        raise PermissionDenied(f"This client does not have the scope {scope}.")
    if user_id is not None and not client.may_act_for(user_id):
        raise PermissionDenied("This client may not act for this shopper.")
    if wait_s := CLIENT_REQUESTS.take(client.id):
        raise RateLimited("Too many requests of this client.", retry_after_s=math.ceil(wait_s))
    _use_nonce(credentials)
    return SignedCaller(client, user_id)


def required_scope(method: str, path: str) -> str:
    """Return the scope for a request: the first part of the path, and whether it reads, such as `orders:write`."""
    area = path.removeprefix(_API).partition("/")[0]
    return f"{area}:{'read' if method in _READING else 'write'}"


def _genuine_client(request: LaneRequest, credentials: Credentials, on_behalf_of: str, now: datetime) -> KnownClient:
    key = KNOWN_KEYS.find(credentials.key_id)
    if key is None:
        raise RequestSignatureInvalid("There is no such key.")
    if abs(now.timestamp() - credentials.time) > settings.SIGNING_WINDOW_S:
        raise RequestSignatureInvalid(f"The time is more than {settings.SIGNING_WINDOW_S} s away from the server's.")
    message = canonical_string(
        method=request.method,
        path=request.path.encode("latin-1"),
        query=request.query,
        time=credentials.time,
        nonce=credentials.nonce,
        on_behalf_of=on_behalf_of,
        body=request.body,
    )
    if not hmac.compare_digest(sign(key.secret, message), credentials.signature):
        raise RequestSignatureInvalid("The signature is not of this request.")
    return key.client


def _user_id(on_behalf_of: str) -> int | None:
    if not on_behalf_of:
        return None
    user_id = id_from_text(on_behalf_of)
    if user_id is None:
        detail = "This is not the id of a shopper."
        raise ValidationFailed(detail, errors=[FieldError(f"header:{ON_BEHALF_OF}", "invalid", detail)])
    return user_id


def _use_nonce(credentials: Credentials) -> None:
    digest = blake2b(f"{credentials.key_id}:{credentials.nonce}".encode("ascii"), digest_size=16).digest()
    # A clock may be ahead: the time stamp is good until the window after it has passed.
    expires_at = datetime.fromtimestamp(credentials.time, tz=UTC) + timedelta(seconds=settings.SIGNING_WINDOW_S + 60)
    try:
        with transaction.atomic(using=HOME):
            SigningNonce(digest=digest, expires_at=expires_at).save(force_insert=True)
    except IntegrityError as error:
        if is_duplicate_key(error):
            raise RequestSignatureInvalid("This nonce was used before.") from error
        raise
