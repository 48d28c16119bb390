"""Access tokens: JSON Web Tokens in the profile of RFC 9068 (`typ: at+jwt`), HS256, verified once and remembered.

Whether a token's session still lives is not said here: see `apps.users.revocations`.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import jwt
import msgspec
from django.conf import settings
from lru import LRU

from apps.users.errors import TokenExpired, TokenInvalid
from apps.users.types import Shopper
from infra.api.fields import id_from_text

_ALGORITHM: Final = "HS256"
_TYPE: Final = "at+jwt"
_MAX_TOKEN_LENGTH: Final = 2048
# Clocks of two machines may differ by this much.
_LEEWAY_S: Final = 5


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
    """The verified tokens of this process: each signature is checked once (bounded, least recently used out first).

    With a `max_count` of 0 nothing is remembered, and each request's token is checked.
    """

    def __init__(self, max_count: int) -> None:
        self._remembers = max_count > 0
        self._known: LRU[str, tuple[Shopper, int]] = LRU(max(max_count, 1))

    def shopper_of(self, token: str, *, now: datetime) -> Shopper:
        """Return whom a genuine token that has not expired names; raises TokenInvalid, TokenExpired."""
        known = self._known.get(token)
        shopper, expires_at = known if known is not None else _verify(token, now)
        if now.timestamp() >= expires_at:
            self._known.pop(token, None)
            raise TokenExpired("The access token has expired. Get a new one at /auth/token/refresh.")
        if known is None and self._remembers:
            self._known[token] = (shopper, expires_at)
        return shopper

    def forget(self) -> None:
        """Forget all; for tests and after a change of keys."""
        self._known.clear()


class _Claims(msgspec.Struct):
    iss: str
    aud: str
    sub: str
    sid: str
    iat: int
    exp: int
    exempt: bool = False


_read_claims: Final = msgspec.json.Decoder(_Claims).decode


def _verify(token: str, now: datetime) -> tuple[Shopper, int]:
    """Return the shopper and the second at which the token expires; expiry itself is judged by the caller."""
    if len(token) > _MAX_TOKEN_LENGTH:
        raise TokenInvalid("The access token is not valid.")
    claims = _own_claims(token) or _genuine_claims(token)
    user_id = id_from_text(claims.sub or "0")
    if user_id is None or claims.iss != settings.TOKEN_ISSUER or claims.aud != settings.TOKEN_AUDIENCE:
        raise TokenInvalid("The access token is not valid.")
    if claims.iat > now.timestamp() + _LEEWAY_S:
        raise TokenInvalid("The access token is not valid yet.")
    return Shopper(user_id, claims.sid, exempt=claims.exempt), claims.exp


def _own_claims(token: str) -> _Claims | None:
    """Return the claims of a token exactly as this project writes them, or None where the library has to look.

    A tenth of the library's time, and in a flood nearly every order comes with a token that was not seen before. It can
    say yes only to what begins with a header of ours, letter by letter, and whose HMAC (RFC 7518, 3.2) is right.
    """
    signed, _, signature = token.rpartition(".")
    header, _, payload = signed.partition(".")
    secret = _secrets_by_header(tuple(settings.JWT_KEYS)).get(header)
    if secret is None or not token.isascii():
        return None
    digest = hmac.digest(secret, signed.encode("ascii"), "sha256")
    if not hmac.compare_digest(urlsafe_b64encode(digest).rstrip(b"="), signature.encode("ascii")):
        return None
    try:
        return _read_claims(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (msgspec.MsgspecError, ValueError):
        return None


@lru_cache(maxsize=8)
def _secrets_by_header(keys: tuple[tuple[str, str], ...]) -> dict[str, bytes]:
    """Return the keys by the encoded header of the tokens that they sign."""
    return {
        jwt.encode({}, secret, algorithm=_ALGORITHM, headers={"kid": key_id, "typ": _TYPE}).partition(".")[0]: (
            secret.encode()
        )
        for key_id, secret in keys
    }


def _genuine_claims(token: str) -> _Claims:
    """Return the claims of a token by the library's judgement; raises TokenInvalid."""
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
        return msgspec.convert(claims, _Claims)
    except (jwt.PyJWTError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise TokenInvalid("The access token is not valid.") from error


access_tokens: Final = AccessTokens(settings.ACCESS_TOKENS_REMEMBERED)
