"""The rules of the points ledger by themselves."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.promotions.points.domain import (
    ALLOWED_MOVES,
    Account,
    Move,
    NotEnoughInLots,
    PointsKind,
    balance_change,
    claw,
    credit,
    draw,
    expiry_of,
    first_of,
    owed_change,
    still_spent,
)

MARCH, APRIL, MAY = date(2027, 3, 1), date(2027, 4, 1), date(2027, 5, 1)
lots = st.dictionaries(st.dates(date(2027, 1, 1), date(2030, 1, 1)), st.integers(1, 1000), max_size=6)
points = st.integers(0, 5000)


def test_the_lot_that_expires_soonest_is_drawn_first() -> None:
    assert draw([(MAY, 10), (MARCH, 5), (APRIL, 0)], 7) == [(MARCH, 5), (MAY, 2)]
    assert draw([], 0) == []
    with pytest.raises(NotEnoughInLots):
        draw([(MAY, 10)], 11)


@given(lots, points)
def test_what_is_drawn_is_what_was_wanted_and_no_lot_gives_more_than_it_has(have: dict[date, int], wanted: int) -> None:
    if wanted > sum(have.values()):
        with pytest.raises(NotEnoughInLots):
            draw(have.items(), wanted)
        return
    drawn = draw(have.items(), wanted)
    assert sum(part for _, part in drawn) == wanted
    assert all(0 < part <= have[lot] for lot, part in drawn)


def test_points_that_come_pay_off_what_is_owed_first() -> None:
    moves = credit(Account.ISSUED, [(MARCH, 4), (APRIL, 6)], owed=7)
    assert moves == [
        Move(Account.ISSUED, Account.OWED, 4, None),
        Move(Account.ISSUED, Account.OWED, 3, None),
        Move(Account.ISSUED, Account.BALANCE, 3, APRIL),
    ]
    assert (balance_change(moves), owed_change(moves)) == (3, -7)


def test_what_cannot_be_clawed_back_is_owed() -> None:
    moves = claw([(MARCH, 4)], 10, balance=4)
    assert (balance_change(moves), owed_change(moves)) == (-4, 6)
    assert claw([], 0, balance=0) == []


@given(lots, points, points)
def test_accounts_sum_to_zero_and_never_fall_below_it(have: dict[date, int], clawed: int, owed: int) -> None:
    balance = sum(have.values())
    for kind, moves in (
        (PointsKind.CLAWED_BACK, claw(list(have.items()), clawed, balance=balance)),
        (PointsKind.EARNED, credit(Account.ISSUED, have.items(), owed=owed)),
        (PointsKind.RESTORED, credit(Account.SPENT, have.items(), owed=owed)),
    ):
        assert {(move.debit, move.credit) for move in moves} <= ALLOWED_MOVES[kind]
        assert all(move.points > 0 for move in moves)
        assert (kind != PointsKind.CLAWED_BACK) or balance + balance_change(moves) >= 0
        assert owed + owed_change(moves) >= 0
        assert all((move.lot is None) != (Account.BALANCE in (move.debit, move.credit)) for move in moves)


@given(lots, st.lists(st.integers(0, 400), max_size=8))
def test_a_spending_comes_back_whole_in_whatever_parts(spent: dict[date, int], parts: list[int]) -> None:
    whole = sum(spent.values())
    returned: dict[date, int] = dict.fromkeys(spent, 0)
    restored = 0
    for part in [*parts, whole]:
        back = first_of(still_spent(list(spent.items()), restored=restored), part)
        assert sum(n for _, n in back) == min(part, whole - restored)
        restored += sum(n for _, n in back)
        for lot, n in back:
            returned[lot] += n
    assert returned == spent


def test_the_lot_that_lasts_longest_is_given_back_first() -> None:
    assert still_spent([(MARCH, 5), (MAY, 2)], restored=1) == [(MAY, 1), (MARCH, 5)]


@pytest.mark.parametrize(
    ("at", "days", "day"),
    [
        (datetime(2026, 11, 26, 23, 59, tzinfo=UTC), 365, date(2027, 12, 1)),
        (datetime(2026, 12, 31, tzinfo=UTC), 365, date(2028, 1, 1)),
        (datetime(2026, 11, 1, tzinfo=UTC), 30, date(2027, 1, 1)),
        (datetime(2026, 11, 1, tzinfo=UTC), 1, date(2026, 12, 1)),
    ],
)
def test_points_live_at_least_their_time_and_end_with_a_month(at: datetime, days: int, day: date) -> None:
    assert expiry_of(at, lifetime=timedelta(days=days)) == day
    assert day > (at + timedelta(days=days)).date()
