"""What points are worth in an order, what refunds bring back and take, what an order earns."""

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from apps.orders.domain import round_money
from apps.orders.point_rules import LinePart, points_back, points_clawed_back, points_earned, points_use

CENT = Decimal("0.01")
money = st.decimals(0, 10_000, places=2)


@pytest.mark.parametrize(
    ("wanted", "payable", "percent", "point_value", "currency", "expected"),
    [
        (100, "10.00", 50, "0.01", "GBP", (100, "1.00")),
        (900, "10.00", 50, "0.01", "GBP", (500, "5.00")),
        (900, "9.99", 50, "0.01", "GBP", (499, "4.99")),
        (900, "10.00", 0, "0.01", "GBP", (0, "0.00")),
        (900, "0.00", 50, "0.01", "GBP", (0, "0.00")),
        (1, "0.01", 99, "0.01", "GBP", (0, "0.00")),
        (3, "10.00", 50, "0.005", "GBP", (2, "0.01")),
        (1, "10.00", 50, "0.005", "GBP", (0, "0.00")),
        (7, "10.00", 50, "0.003", "GBP", (7, "0.02")),
        (7, "1000", 50, "1", "JPY", (7, "7")),
    ],
)
def test_points_pay_a_share_in_whole_units(wanted, payable, percent, point_value, currency, expected) -> None:
    use = points_use(
        wanted,
        payable=Decimal(payable),
        max_percent=percent,
        point_value=Decimal(point_value),
        currency=currency,
    )
    assert (use.points, str(use.value)) == expected


@given(st.integers(0, 10**9), money, st.integers(0, 99), st.sampled_from(["0.01", "0.005", "0.003", "0.5", "3"]))
def test_points_never_pay_more_than_they_are_worth_nor_all_of_an_order(wanted, payable, percent, value) -> None:
    point_value = Decimal(value)
    use = points_use(wanted, payable=payable, max_percent=percent, point_value=point_value, currency="GBP")
    assert 0 <= use.points <= wanted
    assert use.value <= payable * percent / 100
    assert use.value <= use.points * point_value
    assert use.value == round_money(use.value, "GBP")
    assert use.value < payable or use.value == 0
    assert (use.points == 0) == (use.value == 0)
    assert (use.points - 1) * point_value < use.value or use.points == 0  # no point is wasted


def test_an_order_earns_a_share_of_what_was_paid_rounded_down() -> None:
    assert points_earned(Decimal("19.99"), per_mille=10, point_value=CENT) == 19
    assert points_earned(Decimal("19.99"), per_mille=0, point_value=CENT) == 0
    assert points_earned(Decimal(1500), per_mille=10, point_value=Decimal(1)) == 15


@st.composite
def refunded_in_steps(draw):
    """Lines, and the quantities refunded of each after every step, ending with all."""
    weights = draw(st.lists(money, min_size=1, max_size=4))
    quantities = draw(st.lists(st.integers(1, 9), min_size=len(weights), max_size=len(weights)))
    steps = []
    refunded = [0] * len(weights)
    for _ in range(draw(st.integers(0, 5))):
        n = draw(st.integers(0, len(weights) - 1))
        refunded[n] = draw(st.integers(refunded[n], quantities[n]))
        steps.append(list(refunded))
    steps.append(quantities)
    return [
        [LinePart(weight, quantity, back) for weight, quantity, back in zip(weights, quantities, step, strict=True)]
        for step in steps
    ]


@given(refunded_in_steps(), st.integers(0, 10**6))
def test_what_comes_back_and_what_is_taken_grow_to_all_of_it(steps, points) -> None:
    for rule in (points_back, points_clawed_back):
        reached = [rule(points, lines) for lines in steps]
        assert all(before <= after for before, after in pairwise([0, *reached]))
        assert reached[-1] == points


@given(refunded_in_steps(), st.integers(1, 10**6))
def test_no_more_comes_back_than_the_share_and_no_less_is_taken(steps, points) -> None:
    for lines in steps:
        whole = sum(line.weight for line in lines)
        assume(whole)
        share = sum(line.weight * line.refunded_quantity / line.quantity for line in lines) / whole
        if any(line.refunded_quantity < line.quantity for line in lines):
            assert points_back(points, lines) <= points * share + Decimal("1e-9")
            assert points_clawed_back(points, lines) >= points * share - Decimal("1e-9")


def test_a_worthless_line_brings_nothing_back_by_itself() -> None:
    lines = [LinePart(Decimal(0), 1, 1), LinePart(Decimal(0), 1, 0)]
    assert (points_back(10, lines), points_clawed_back(10, lines)) == (0, 0)
    assert points_back(10, [LinePart(Decimal(0), 1, 1)]) == 10
