"""Access tokens: JSON Web Tokens in the profile of RFC 9068 (`typ: at+jwt`), HS256, verified once and remembered.

Whether a token's session still lives is not said here: see `apps.users.revocations`.
"""

import threading
from datetime import datetime
from typing import Any, Final

import jwt
from cachetools import LRUCache
from django.conf import settings

from apps.users.errors import TokenExpired, TokenInvalid
from apps.users.types import Shopper
from infra.api.fields import id_from_text

_ALGORITHM: Final = "HS256"
_TYPE: Final = "at+jwt"
_MAX_TOKEN_LENGTH: Final = 2048
# Clocks of two machines may differ by this much.
_LEEWAY_S: Final = 5
# Verified tokens that a process remembers; one takes about a kilobyte.
_MEMORY_COUNT: Final = 50_000


def sign_access_token(
    *, user_id: int, session_id: str, now: datetime, lifetime_s: int | None = None, exempt: bool = False
) -> str:
    """Return a token of the session, valid from `now` for `lifetime_s` seconds (by default 10 minutes, a setting)."""
    key_id, secret = settings.JWT_KEYS[0]
    issued_at = int(now.timestamp())
    claims: dict[str, Any] = {
        "iss": settings.TOKEN_ISSUER,
        "aud": settings.TOKEN_AUDIENCE,
        "sub": str(user_id),
        "sid": session_id,
        "iat": issued_at,
        "exp": issued_at + (settings.ACCESS_TOKEN_LIFETIME_S if lifetime_s is None else lifetime_s),
    }
    if exempt:
        claims["exempt"] = True
    return jwt.encode(claims, secret, algorithm=_ALGORITHM, headers={"kid": key_id, "typ": _TYPE})


class AccessTokens:
    """The verified tokens of this process: each signature is checked once (bounded, least recently used out first)."""

    def __init__(self, max_count: int) -> None:
        self._known: LRUCache[str, tuple[Shopper, int]] = LRUCache(max_count)
        self._lock = threading.Lock()

    def shopper_of(self, token: str, *, now: datetime) -> Shopper:
        """Return whom a genuine token that has not expired names; raises TokenInvalid, TokenExpired."""
        with self._lock:
            known = self._known.get(token)
        shopper, expires_at = known if known is not None else _verify(token, now)
        if now.timestamp() >= expires_at:
            with self._lock:
                self._known.pop(token, None)
            raise TokenExpired("The access token has expired. Get a new one at /auth/token/refresh.")
        if known is None:
            with self._lock:
                self._known[token] = (shopper, expires_at)
        return shopper

    def forget(self) -> None:
        """Forget all; for tests and after a change of keys."""
        with self._lock:
            self._known.clear()


def _verify(token: str, now: datetime) -> tuple[Shopper, int]:
    """Return the shopper and the second at which the token expires; expiry itself is judged by the caller."""
    if len(token) > _MAX_TOKEN_LENGTH:
        raise TokenInvalid("The access token is not valid.")
    try:
        header = jwt.get_unverified_header(token)
        secret = dict(settings.JWT_KEYS).get(str(header.get("kid")))
        if secret is None or header.get("typ") != _TYPE:
            raise TokenInvalid("The access token is not valid.")
        claims = jwt.decode(
            token,
            secret,
            algorithms=[_ALGORITHM],
            issuer=settings.TOKEN_ISSUER,
            audience=settings.TOKEN_AUDIENCE,
            options={"require": ["exp", "iat", "sub", "sid", "iss", "aud"], "verify_exp": False, "verify_iat": False},
        )
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise TokenInvalid("The access token is not valid.") from error
    user_id = id_from_text(str(claims["sub"]) or "0")
    issued_at, expires_at = claims["iat"], claims["exp"]
    if user_id is None or not isinstance(issued_at, int) or not isinstance(expires_at, int):
        raise TokenInvalid("The access token is not valid.")
    if issued_at > now.timestamp() + _LEEWAY_S:
        raise TokenInvalid("The access token is not valid yet.")
    return Shopper(user_id, str(claims["sid"]), exempt=claims.get("exempt") is True), expires_at


access_tokens: Final = AccessTokens(_MEMORY_COUNT)
