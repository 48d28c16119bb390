"""Encryption of texts: keys, rotation, altered values."""

import secrets
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.crypto.cipher import Undecryptable, current_key_id, decrypt_text, encrypt_text, is_current

OLD, NEW = (urlsafe_b64encode(secrets.token_bytes(32)).decode() for _ in range(2))


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_a_text_comes_back_as_it_was(text: str) -> None:
    sealed = encrypt_text(text)
    assert sealed.isascii()
    assert decrypt_text(sealed) == text


def test_equal_texts_are_stored_differently() -> None:
    assert encrypt_text("Ada") != encrypt_text("Ada")


def test_a_new_key_encrypts_and_the_old_one_still_decrypts(settings) -> None:
    # given a value under the old key
    settings.DATA_KEYS = [OLD]
    sealed = encrypt_text("Ada")
    # when a new key is put in front
    settings.DATA_KEYS = [NEW, OLD]
    # then both work, and the value is seen to be under an old key
    assert decrypt_text(sealed) == "Ada"
    assert not is_current(sealed)
    assert is_current(encrypt_text("Ada"))
    assert encrypt_text("Ada").startswith(current_key_id())


def test_a_value_whose_key_is_gone_cannot_be_read(settings) -> None:
    settings.DATA_KEYS = [OLD]
    sealed = encrypt_text("Ada")
    settings.DATA_KEYS = [NEW]
    with pytest.raises(Undecryptable):
        decrypt_text(sealed)


def test_an_altered_value_cannot_be_read() -> None:
    sealed = encrypt_text("Ada")
    altered = sealed[:-6] + ("A" if sealed[-6] != "A" else "B") + sealed[-5:]
    with pytest.raises(Undecryptable):
        decrypt_text(altered)
