"""Access tokens: only genuine ones pass, and each is verified once."""

from datetime import timedelta

import jwt
import pytest

from apps.users import access_tokens as module
from apps.users.access_tokens import AccessTokens, sign_access_token
from apps.users.errors import TokenExpired, TokenInvalid
from tests.factories.users import NOW

SESSION = "ab" * 16


@pytest.fixture
def tokens() -> AccessTokens:
    return AccessTokens(10)


def forged(settings, *, key: str | None = None, headers: dict | None = None, algorithm: str = "HS256", **claims) -> str:
    key_id, secret = settings.JWT_KEYS[0]
    genuine = {
        "iss": settings.TOKEN_ISSUER,
        "aud": settings.TOKEN_AUDIENCE,
        "sub": "5",
        "sid": SESSION,
        "iat": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 600,
    }
    claims = {name: value for name, value in (genuine | claims).items() if value is not None}
    return jwt.encode(
        claims,
        secret if key is None else key,
        algorithm=algorithm,
        headers={"kid": key_id, "typ": "at+jwt"} | (headers or {}),
    )


def test_a_signed_token_names_its_shopper(tokens: AccessTokens) -> None:
    token = sign_access_token(user_id=5, session_id=SESSION, now=NOW)
    shopper = tokens.shopper_of(token, now=NOW)
    assert (shopper.user_id, shopper.session_id, shopper.exempt) == (5, SESSION, False)
    header, claims = jwt.get_unverified_header(token), jwt.decode(token, options={"verify_signature": False})
    assert header["typ"] == "at+jwt"
    assert header["alg"] == "HS256"
    assert claims.keys() == {"iss", "aud", "sub", "sid", "iat", "exp"}


def test_a_bench_token_is_exempt(tokens: AccessTokens) -> None:
    token = sign_access_token(user_id=5, session_id=SESSION, now=NOW, exempt=True)
    assert tokens.shopper_of(token, now=NOW).exempt


def test_a_token_ends_after_ten_minutes_even_when_it_is_remembered(tokens: AccessTokens) -> None:
    token = sign_access_token(user_id=5, session_id=SESSION, now=NOW)
    tokens.shopper_of(token, now=NOW + timedelta(seconds=599))
    with pytest.raises(TokenExpired):
        tokens.shopper_of(token, now=NOW + timedelta(seconds=600))


def test_a_signature_is_verified_once(tokens: AccessTokens, monkeypatch: pytest.MonkeyPatch) -> None:
    token = sign_access_token(user_id=5, session_id=SESSION, now=NOW)
    tokens.shopper_of(token, now=NOW)
    monkeypatch.setattr(module, "_verify", lambda *_: pytest.fail("verified again"))
    tokens.shopper_of(token, now=NOW)
    # negative control: once forgotten, it is verified again
    tokens.forget()
    with pytest.raises(pytest.fail.Exception):
        tokens.shopper_of(token, now=NOW)


def test_without_a_memory_each_request_has_its_token_checked() -> None:
    tokens = AccessTokens(0)
    token = sign_access_token(user_id=5, session_id=SESSION, now=NOW)
    assert [tokens.shopper_of(token, now=NOW).user_id for _ in range(2)] == [5, 5]
    assert not tokens._known


def test_the_memory_is_bounded(tokens: AccessTokens) -> None:
    for user_id in range(1, 50):
        tokens.shopper_of(sign_access_token(user_id=user_id, session_id=SESSION, now=NOW), now=NOW)
    assert len(tokens._known) == 10


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "somebody"},
        {"aud": "something"},
        {"exp": None},
        {"iat": None},
        {"sub": None},
        {"sid": None},
        {"sub": "0"},
        {"sub": "-5"},
        {"sub": "x"},
        {"sub": ""},
        {"exp": "tomorrow"},
        {"exp": 1e400},
        {"iat": int(NOW.timestamp()) + 60},
    ],
)
def test_a_token_with_other_claims_is_refused(settings, tokens: AccessTokens, claims: dict) -> None:
    with pytest.raises(TokenInvalid):
        tokens.shopper_of(forged(settings, **claims), now=NOW)
    # negative control: the same token with the genuine claims passes
    assert tokens.shopper_of(forged(settings), now=NOW).user_id == 5


@pytest.mark.parametrize(
    "options",
    [
        {"key": "x" * 32},
        {"headers": {"kid": "unknown"}},
        {"headers": {"kid": ""}},
        {"headers": {"typ": "JWT"}},
        {"algorithm": "HS512"},
        {"algorithm": "none", "key": ""},
    ],
)
def test_a_token_of_another_key_type_or_algorithm_is_refused(settings, tokens: AccessTokens, options: dict) -> None:
    with pytest.raises(TokenInvalid):
        tokens.shopper_of(forged(settings, **options), now=NOW)


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "é", "x" * 5000, "W1tbW1tb." * 3, "e30.e30.e30"])
def test_what_is_no_token_is_refused(tokens: AccessTokens, token: str) -> None:
    with pytest.raises(TokenInvalid):
        tokens.shopper_of(token, now=NOW)


def test_a_token_of_the_former_key_passes_while_that_key_is_kept(settings, tokens: AccessTokens) -> None:
    token = sign_access_token(user_id=5, session_id=SESSION, now=NOW)
    settings.JWT_KEYS = [("k2", "n" * 40), *settings.JWT_KEYS]
    assert tokens.shopper_of(token, now=NOW).user_id == 5
    tokens.forget()
    settings.JWT_KEYS = settings.JWT_KEYS[:1]
    with pytest.raises(TokenInvalid):
        tokens.shopper_of(token, now=NOW)


def test_our_own_tokens_are_read_as_the_library_reads_them() -> None:
    for exempt in (False, True):
        token = sign_access_token(user_id=5, session_id=SESSION, now=NOW, exempt=exempt)
        own = module._own_claims(token)
        assert own is not None
        assert own == module._genuine_claims(token)


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("at", [0, 5, -1])
def test_a_token_of_ours_with_one_letter_changed_is_refused(tokens: AccessTokens, part: int, at: int) -> None:
    parts = sign_access_token(user_id=5, session_id=SESSION, now=NOW).split(".")
    letters = list(parts[part])
    letters[at] = "B" if letters[at] != "B" else "C"
    parts[part] = "".join(letters)
    assert module._own_claims(".".join(parts)) is None
    with pytest.raises(TokenInvalid):
        tokens.shopper_of(".".join(parts), now=NOW)


def test_a_signature_with_padding_or_spare_bits_is_not_ours() -> None:
    token = sign_access_token(user_id=5, session_id=SESSION, now=NOW)
    last = token[-1]
    twin = next(letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef" if letter != last)
    assert module._own_claims(token[:-1] + twin) is None
    assert module._own_claims(token + "=") is None
