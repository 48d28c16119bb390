"""Refresh tokens: derived, bound to user, session and generation."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.users.refresh_tokens import read_refresh_token, write_refresh_token

SESSION, SEED = "0f" * 16, b"s" * 16


def write(generation: int = 3, *, user_id: int = 7, session_id: str = SESSION, seed: bytes = SEED) -> str:
    return write_refresh_token(user_id=user_id, session_id=session_id, generation=generation, seed=seed)


def test_a_token_tells_its_session_and_is_genuine_for_its_seed_only() -> None:
    claim = read_refresh_token(write())
    assert claim is not None
    assert (claim.user_id, claim.session_id, claim.generation) == (7, SESSION, 3)
    assert claim.is_genuine(SEED)
    assert not claim.is_genuine(b"t" * 16)


def test_the_same_generation_gives_the_same_token() -> None:
    assert write() == write()
    assert len({write(), write(4), write(user_id=8), write(session_id="1f" * 16), write(seed=b"t" * 16)}) == 5


def test_a_token_of_a_former_key_is_genuine_while_that_key_is_kept(settings) -> None:
    claim = read_refresh_token(write())
    assert claim is not None
    settings.REFRESH_KEYS = ["n" * 40, *settings.REFRESH_KEYS]
    assert claim.is_genuine(SEED)
    settings.REFRESH_KEYS = settings.REFRESH_KEYS[:1]
    assert not claim.is_genuine(SEED)


@given(st.integers(0, 60), st.integers(1, 255))
def test_a_token_with_a_changed_byte_is_not_genuine(at: int, change: int) -> None:
    raw = bytearray(base64.urlsafe_b64decode(write() + "=="))
    raw[at] ^= change
    claim = read_refresh_token(base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("="))
    assert claim is None or not claim.is_genuine(SEED)


@pytest.mark.parametrize("token", ["", "x", "é", "x" * 82, "=" * 82, "A" * 81, write()[:-1], write() + "A"])
def test_what_is_no_token_is_told_as_none(token: str) -> None:
    claim = read_refresh_token(token)
    assert claim is None or not claim.is_genuine(SEED)
