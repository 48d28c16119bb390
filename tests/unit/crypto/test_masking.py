"""Masks show too little to tell who it is."""

import pytest

from infra.crypto.masking import mask_email, mask_name, mask_phone


@pytest.mark.parametrize(
    ("email", "masked"),
    [("ada@example.org", "a***@example.org"), ("@example.org", "***@example.org"), ("nothing", "n***"), ("", "")],
)
def test_an_email_address_keeps_its_first_letter_and_domain(email: str, masked: str) -> None:
    assert mask_email(email) == masked


@pytest.mark.parametrize(("phone", "masked"), [("+441632960961", "+44***61"), ("+4412", "***"), ("", "")])
def test_a_phone_number_keeps_its_ends(phone: str, masked: str) -> None:
    assert mask_phone(phone) == masked


@pytest.mark.parametrize(("name", "masked"), [("Ada Lovelace", "A***"), ("Al", "***"), ("", "")])
def test_a_name_keeps_its_first_letter(name: str, masked: str) -> None:
    assert mask_name(name) == masked
