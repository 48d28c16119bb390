"""Logins, codes, locales: what is the same, and what is refused."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.users.domain import (
    MalformedLogin,
    is_country,
    is_locale,
    is_time_zone,
    new_code,
    normalise_email,
    normalise_login,
    normalise_phone,
    normalise_username,
    wait_after_failures_s,
    wait_for_code_s,
)
from apps.users.types import LoginKind


@pytest.mark.parametrize("text", ["Alice", "ALICE", "alice", "\uff41\uff4c\uff49\uff43\uff45", "\uff21lice"])
def test_spellings_of_one_username_are_one(text: str) -> None:
    assert normalise_username(text) == "alice"


def test_case_folding_goes_beyond_lower_case() -> None:
    assert normalise_username("Straße") == normalise_username("STRASSE")


@pytest.mark.parametrize(
    "text", ["", "a" * 65, "a b", "a@b", "+a", "a/b", "a\u200bb", "a\ufe0fb", "a\u034fb", "\u3164", "a\n", "😀"]
)
def test_what_cannot_be_a_username_is_refused(text: str) -> None:
    with pytest.raises(MalformedLogin):
        normalise_username(text)


@given(st.text(max_size=80))
def test_normalising_a_username_twice_changes_nothing(text: str) -> None:
    try:
        once = normalise_username(text)
    except MalformedLogin:
        return
    assert normalise_username(once) == once
    assert normalise_login(once).kind is LoginKind.USERNAME


def test_spellings_of_one_email_address_are_one() -> None:
    assert normalise_email("Ada@Example.ORG") == normalise_email("ada@example.org") == "ada@example.org"


@pytest.mark.parametrize("text", ["", "ada", "ada@", "@example.org", "a b@example.org", f"{'a' * 250}@example.org"])
def test_what_is_no_email_address_is_refused(text: str) -> None:
    with pytest.raises(MalformedLogin):
        normalise_email(text)


@pytest.mark.parametrize("text", ["+441632960961", "+447700900123", "+12025550123", "+4915123456789"])
def test_a_number_in_e164_is_a_phone_number(text: str) -> None:
    assert normalise_phone(text) == text


@pytest.mark.parametrize("text", ["", "441632960961", "01632960961", "+44 1632 960961", "+999123456", "+441", "+abc"])
def test_what_is_no_phone_number_is_refused(text: str) -> None:
    with pytest.raises(MalformedLogin):
        normalise_phone(text)


@pytest.mark.parametrize(
    ("text", "kind"),
    [("ada@example.org", LoginKind.EMAIL), ("+441632960961", LoginKind.PHONE), ("ada", LoginKind.USERNAME)],
)
def test_the_kind_of_a_login_shows(text: str, kind: LoginKind) -> None:
    assert normalise_login(text).kind is kind


def test_a_code_has_six_digits() -> None:
    codes = {new_code() for _ in range(200)}
    assert all(len(code) == 6 and code.isdigit() for code in codes)
    assert len(codes) > 150


def test_failures_wait_longer_and_longer_up_to_a_cap() -> None:
    waits = [wait_after_failures_s(count, free=5, cap_s=30) for count in range(14)]
    assert waits == [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 30, 30, 30, 30]


@pytest.mark.parametrize(
    ("text", "good"), [("en", True), ("en-GB", True), ("zh-Hant-TW", True), ("en_GB", False), ("", False)]
)
def test_a_locale_is_a_language_tag(text: str, good: bool) -> None:
    assert is_locale(text) is good


@pytest.mark.parametrize(
    ("text", "good"), [("Europe/London", True), ("UTC", True), ("Mars/Base", False), ("../etc", False)]
)
def test_a_time_zone_is_known(text: str, good: bool) -> None:
    assert is_time_zone(text) is good


@pytest.mark.parametrize(("text", "good"), [("GB", True), ("US", True), ("ZZ", False), ("gb", False), ("", False)])
def test_a_country_is_an_iso_code(text: str, good: bool) -> None:
    assert is_country(text) is good


@pytest.mark.parametrize(
    ("sent_s_ago", "wait_s"),
    [
        ([], 0),
        ([0], 60),
        ([59.5], 1),
        ([60], 0),
        ([60, 120, 180, 240], 0),
        ([60, 120, 180, 240, 300], 3300),
        ([10, 3000, 3100, 3200, 3590], 50),
        ([61, 3000, 3100, 3200, 3600], 0),
    ],
)
def test_a_code_waits_for_the_one_before_and_for_the_fifth_before(sent_s_ago: list[float], wait_s: int) -> None:
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    sent_at = [now - timedelta(seconds=seconds) for seconds in sent_s_ago]
    assert wait_for_code_s(sent_at, now=now, apart_s=60, most=5) == wait_s


@given(st.lists(st.integers(0, 20_000), max_size=60))
def test_codes_that_waited_keep_to_both_limits(tries: list[int]) -> None:
    begin = datetime(2026, 11, 22, tzinfo=UTC)
    sent: list[datetime] = []
    for second in sorted(tries):
        now = begin + timedelta(seconds=second)
        if not wait_for_code_s(sent[::-1][:5], now=now, apart_s=60, most=5):
            sent.append(now)
    assert all(later - earlier >= timedelta(seconds=60) for earlier, later in pairwise(sent))
    assert all(sixth - first >= timedelta(hours=1) for first, sixth in zip(sent, sent[5:], strict=False))
