"""The rules of payments: the table of reactions row by row, references, return addresses, and money as a property."""

from decimal import Decimal
from itertools import takewhile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.payments.domain import (
    MAX_REFUND_TRIES,
    OPEN_ATTEMPTS,
    REACTIONS,
    REFUND_REACTIONS,
    REFUND_WORDS,
    AttemptStatus,
    Money,
    Reaction,
    Reference,
    RefundReaction,
    RefundStatus,
    is_allowed_return_url,
    next_poll_s,
    parse_reference,
    payment_id,
    reaction_to,
    refund_id,
    refund_reaction_to,
    refund_try_delay_s,
    refund_try_id,
    refundable,
)

POUNDS = Money(Decimal("12.34"), "GBP")
PENDING, ACTION, PROCESSING, AUTHORIZED, SUCCEEDED, FAILED, CANCELLED = AttemptStatus

ROWS = [
    # known, told, what follows
    (PENDING, PENDING, "ignore"),
    (PENDING, ACTION, "move"),
    (PENDING, PROCESSING, "move"),
    (PENDING, SUCCEEDED, "capture"),
    (PENDING, FAILED, "move"),
    (PENDING, CANCELLED, "move"),
    (ACTION, PENDING, "ignore"),
    (ACTION, ACTION, "ignore"),
    (ACTION, PROCESSING, "move"),
    (ACTION, SUCCEEDED, "capture"),
    (ACTION, FAILED, "move"),
    (ACTION, CANCELLED, "move"),
    (PROCESSING, PENDING, "ignore"),
    (PROCESSING, ACTION, "ignore"),
    (PROCESSING, PROCESSING, "ignore"),
    (PROCESSING, SUCCEEDED, "capture"),
    (PROCESSING, FAILED, "move"),
    (PROCESSING, CANCELLED, "move"),
    (SUCCEEDED, PENDING, "ignore"),
    (SUCCEEDED, ACTION, "ignore"),
    (SUCCEEDED, PROCESSING, "ignore"),
    (SUCCEEDED, SUCCEEDED, "ignore"),
    (SUCCEEDED, FAILED, "contradiction"),
    (SUCCEEDED, CANCELLED, "contradiction"),
    (FAILED, PENDING, "ignore"),
    (FAILED, ACTION, "ignore"),
    (FAILED, PROCESSING, "ignore"),
    (FAILED, SUCCEEDED, "capture"),
    (FAILED, FAILED, "ignore"),
    (FAILED, CANCELLED, "ignore"),
    (CANCELLED, PENDING, "ignore"),
    (CANCELLED, ACTION, "ignore"),
    (CANCELLED, PROCESSING, "ignore"),
    (CANCELLED, SUCCEEDED, "capture"),
    (CANCELLED, FAILED, "ignore"),
    (CANCELLED, CANCELLED, "ignore"),
    (PENDING, AUTHORIZED, "authorize"),
    (ACTION, AUTHORIZED, "authorize"),
    (PROCESSING, AUTHORIZED, "authorize"),
    (SUCCEEDED, AUTHORIZED, "ignore"),
    (FAILED, AUTHORIZED, "authorize"),
    (CANCELLED, AUTHORIZED, "ignore"),
    (AUTHORIZED, PENDING, "ignore"),
    (AUTHORIZED, ACTION, "ignore"),
    (AUTHORIZED, PROCESSING, "ignore"),
    (AUTHORIZED, AUTHORIZED, "ignore"),
    (AUTHORIZED, SUCCEEDED, "capture"),
    (AUTHORIZED, FAILED, "move"),
    (AUTHORIZED, CANCELLED, "move"),
]


@pytest.mark.parametrize(("known", "told", "follows"), ROWS)
def test_a_providers_word_does_what_its_row_says(known, told, follows):
    assert reaction_to(known, told, expected=POUNDS, told=POUNDS) == follows


def test_every_pair_of_states_has_its_row():
    assert {(known, told) for known, told, _ in ROWS} == {(k, t) for k in AttemptStatus for t in AttemptStatus}
    assert set(REACTIONS) == set(AttemptStatus)


@pytest.mark.parametrize("told", [Money(Decimal("12.33"), "GBP"), Money(Decimal("12.34"), "EUR")])
@pytest.mark.parametrize("known", list(AttemptStatus))
def test_other_money_than_the_attempts_changes_nothing_in_any_state(known, told):
    assert reaction_to(known, SUCCEEDED, expected=POUNDS, told=told) == Reaction.MISMATCH


def test_trailing_zeros_are_not_other_money():
    told = Money(Decimal("12.3400"), "GBP")
    assert reaction_to(PENDING, SUCCEEDED, expected=POUNDS, told=told) == Reaction.CAPTURE


REFUND_ROWS = [
    ("approved", "processing", "move"),
    ("approved", "succeeded", "move"),
    ("approved", "failed", "retry"),
    ("processing", "processing", "ignore"),
    ("processing", "succeeded", "move"),
    ("processing", "failed", "retry"),
    ("succeeded", "processing", "ignore"),
    ("succeeded", "succeeded", "ignore"),
    ("succeeded", "failed", "contradiction"),
    ("failed", "processing", "ignore"),
    ("failed", "failed", "ignore"),
    ("failed", "succeeded", "contradiction"),
    ("requested", "processing", "ignore"),
    ("requested", "succeeded", "contradiction"),
    ("requested", "failed", "contradiction"),
    ("rejected", "processing", "ignore"),
    ("rejected", "succeeded", "contradiction"),
    ("rejected", "failed", "contradiction"),
]


@pytest.mark.parametrize(("known", "told", "follows"), REFUND_ROWS)
def test_a_word_about_a_refund_does_what_its_row_says(known, told, follows):
    reaction = refund_reaction_to(RefundStatus(known), RefundStatus(told), expected=POUNDS, told=POUNDS)
    assert reaction == RefundReaction(follows)


def test_every_state_of_a_refund_has_a_row_for_every_word():
    cells = {(str(known), str(told)) for known in RefundStatus for told in REFUND_WORDS}
    assert {(known, told) for known, told, _ in REFUND_ROWS} == cells


@pytest.mark.parametrize("known", list(RefundStatus))
def test_a_try_that_has_failed_before_is_believed_to_have_failed(known):
    def hear(word):
        return refund_reaction_to(known, RefundStatus(word), expected=POUNDS, told=POUNDS, is_current=False)

    assert (hear("processing"), hear("failed"), hear("succeeded")) == ("ignore", "ignore", "contradiction")


def test_a_refund_is_tried_again_ever_later_and_at_once_when_the_staff_ask():
    waits = [refund_try_delay_s(tries) for tries in range(1, MAX_REFUND_TRIES + 2)]
    assert waits[0] == waits[-1] == 0
    assert waits[1:-1] == sorted(waits[1:-1])
    assert waits[1] < 20


def test_a_word_about_a_refund_of_other_money_is_a_mismatch():
    told = Money(Decimal("99.00"), "GBP")
    reaction = refund_reaction_to(RefundStatus.PROCESSING, RefundStatus.SUCCEEDED, expected=POUNDS, told=told)
    assert reaction == RefundReaction.MISMATCH


amounts = st.decimals(min_value=Decimal("0.01"), max_value=Decimal("9999.99"), places=2)


@given(
    words=st.lists(st.sampled_from(list(AttemptStatus)), max_size=12),
    amount=amounts,
    wishes=st.lists(amounts, max_size=8),
)
def test_whatever_is_told_and_asked_for_refunds_never_pass_what_was_captured(words, amount, wishes):
    # given an attempt that hears these words in this order
    status, captured, capture_count = PENDING, Decimal(0), 0
    for word in words:
        reaction = reaction_to(status, word, expected=Money(amount, "GBP"), told=Money(amount, "GBP"))
        if reaction in (Reaction.MOVE, Reaction.AUTHORIZE, Reaction.CAPTURE):
            status = word
        if reaction == Reaction.CAPTURE:
            captured += amount
            capture_count += 1
    # when refunds of these amounts are asked for, and each is granted as far as the rule allows
    claimed = Decimal(0)
    for wish in wishes:
        if wish <= refundable(captured=captured, claimed=claimed):
            claimed += wish
    # then money came at most once, exactly if the provider said so, and no more than that goes back
    assert capture_count == (1 if SUCCEEDED in words else 0)
    assert (status == SUCCEEDED) == (SUCCEEDED in words)
    assert Decimal(0) <= claimed <= captured


@given(order_id=st.integers(1, 2**63 - 1), n=st.integers(1, 9999))
def test_an_id_given_outside_names_its_row_again(order_id, n):
    assert parse_reference(payment_id(order_id, n)) == Reference(False, order_id, n)
    assert parse_reference(refund_id(order_id, n)) == Reference(True, order_id, n)
    assert parse_reference(refund_try_id(order_id, n, 1)) == Reference(True, order_id, n)
    assert parse_reference(refund_try_id(order_id, n, 12)) == Reference(True, order_id, n, 12)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pay_1",
        "pay_0_1",
        "pay_1_0",
        "pay_01_1",
        "re_9223372036854775808_1",
        "PAY_1_1",
        "pay_1_1\n",
        "pay_\u0661_1",
        "re_1_1_t1",
        "re_1_1_t02",
        "pay_1_1_t2",
    ],
)
def test_what_is_no_id_of_ours_names_nothing(text):
    assert parse_reference(text) is None


ALLOWED = ["https://shop.example", "https://other.example:8443/app"]


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example",
        "https://shop.example/thanks?order=1#top",
        "https://SHOP.example:443/x",
        "https://other.example:8443/app",
        "https://other.example:8443/app/thanks",
    ],
)
def test_an_address_on_the_list_is_allowed(url):
    assert is_allowed_return_url(url, allowed=ALLOWED)


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example/",
        "https://shop.example.evil.net/",
        "https://shop.example@evil.net/",
        "https://evil.net/https://shop.example",
        "https://shop.example:444/",
        "https://shop.example\\@evil.net/",
        "//shop.example/",
        "javascript:alert(1)",
        "https://other.example:8443/application",
        "https://other.example:8443/app/../admin",
        "https://shop.example:port/",
        "https://[::1/",
        "",
    ],
)
def test_an_address_that_merely_looks_like_one_on_the_list_is_not_allowed(url):
    assert not is_allowed_return_url(url, allowed=ALLOWED)


@pytest.mark.parametrize("status", sorted(OPEN_ATTEMPTS - {AUTHORIZED}))
def test_an_open_attempt_is_asked_about_often_enough_to_find_a_silent_payment_within_a_minute(status):
    assert next_poll_s(status, age_s=7 * 24 * 3600) <= 30


def test_money_that_is_held_is_looked_after_hourly_and_often_once_it_is_to_be_captured():
    assert next_poll_s(AUTHORIZED, age_s=10**6) == 3600
    assert next_poll_s(AUTHORIZED, age_s=10**6, capture_owed=True) == 20


def test_an_attempt_that_was_closed_is_watched_ever_more_rarely_for_a_day():
    age_s, polls = 0.0, []
    while (pause_s := next_poll_s(CANCELLED, age_s=age_s)) is not None:
        polls.append(pause_s)
        age_s += pause_s
    assert polls == sorted(polls)
    assert polls[0] == 20
    assert len(polls) < 30
    assert age_s > 24 * 3600


def test_an_attempt_that_succeeded_is_never_asked_about_again():
    assert next_poll_s(SUCCEEDED, age_s=0) is None


def documented_table(title: str) -> dict[tuple[str, str], str]:
    """Return the cells of the table of docs/payments.md whose corner has this title, by row and column."""
    lines = (Path(__file__).parents[3] / "docs" / "payments.md").read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {title} "))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in takewhile(bool, lines[start:])]
    columns = rows[0][1:]
    return {
        (row[0].strip("*"), column): cell for row in rows[2:] for column, cell in zip(columns, row[1:], strict=True)
    }


def test_the_tables_of_the_manual_are_those_of_the_code():
    assert documented_table("known \\ told") == {
        (known, told): reaction for known, row in REACTIONS.items() for told, reaction in row.items()
    }
    assert documented_table("refund known \\ told") == {
        (known, told): reaction for known, row in REFUND_REACTIONS.items() for told, reaction in row.items()
    }
