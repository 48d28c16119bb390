"""Statuses, transitions and money of an order."""

from decimal import Decimal
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.orders.domain import (
    ALLOWED_TRANSITIONS,
    Closure,
    ContradictoryState,
    ForbiddenTransition,
    FulfillmentStatus,
    OrderStatus,
    PaymentStatus,
    StockTarget,
    check_transition,
    currency_decimals,
    line_total,
    merge_lines,
    refund_amount,
    round_money,
    split_amount,
    status_of,
    stock_target,
    totals_of,
)

ALL_STATES = list(product(PaymentStatus, FulfillmentStatus, Closure, (False, True)))


def status(payment="unpaid", fulfillment="none", closed_as="", refunding=False):
    return status_of(
        payment_status=PaymentStatus(payment),
        fulfillment_status=FulfillmentStatus(fulfillment),
        closed_as=Closure(closed_as),
        refunding=refunding,
    )


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({}, "pending_payment"),
        ({"payment": "authorized"}, "pending_payment"),
        ({"closed_as": "cancelled"}, "cancelled"),
        ({"closed_as": "expired"}, "expired"),
        ({"payment": "paid"}, "paid"),
        ({"payment": "paid", "fulfillment": "partial"}, "fulfilling"),
        ({"payment": "paid", "fulfillment": "shipped"}, "shipped"),
        ({"payment": "paid", "fulfillment": "delivered"}, "completed"),
        ({"payment": "partially_refunded", "fulfillment": "delivered"}, "completed"),
        ({"payment": "paid", "refunding": True}, "refunding"),
        ({"payment": "partially_refunded", "refunding": True}, "refunding"),
        ({"payment": "refunded"}, "refunded"),
        ({"payment": "refunded", "fulfillment": "delivered"}, "refunded"),
    ],
)
def test_the_status_follows_from_the_facts(state, expected):
    assert status(**state) == expected


def test_every_combination_of_facts_has_one_status_or_is_contradictory():
    reached, contradictory_count = set(), 0
    for payment, fulfillment, closed_as, refunding in ALL_STATES:
        try:
            reached.add(status(payment, fulfillment, closed_as, refunding))
        except ContradictoryState:
            contradictory_count += 1

    assert reached == set(OrderStatus)
    assert 0 < contradictory_count < len(ALL_STATES)


def test_money_of_a_closed_order_is_no_fact_of_the_order():
    with pytest.raises(ContradictoryState):
        status("paid", closed_as="expired")
    with pytest.raises(ContradictoryState):
        status("unpaid", refunding=True)


def test_only_the_transitions_of_the_table_are_allowed():
    for before, after in product(OrderStatus, OrderStatus):
        if before == after or after in ALLOWED_TRANSITIONS[before]:
            check_transition(before, after)
        else:
            with pytest.raises(ForbiddenTransition):
                check_transition(before, after)


def test_closed_orders_stay_closed():
    assert {word for word, nexts in ALLOWED_TRANSITIONS.items() if not nexts} == {"cancelled", "expired", "refunded"}
    assert set(ALLOWED_TRANSITIONS) == set(OrderStatus)


def test_each_status_says_what_becomes_of_the_stock():
    assert {word: stock_target(word) for word in OrderStatus} == {
        OrderStatus.PENDING_PAYMENT: StockTarget.HOLD,
        OrderStatus.PAID: StockTarget.SETTLE,
        OrderStatus.FULFILLING: StockTarget.SETTLE,
        OrderStatus.SHIPPED: StockTarget.SETTLE,
        OrderStatus.COMPLETED: StockTarget.SETTLE,
        OrderStatus.CANCELLED: StockTarget.RELEASE,
        OrderStatus.EXPIRED: StockTarget.RELEASE,
        OrderStatus.REFUNDING: StockTarget.RETURN,
        OrderStatus.REFUNDED: StockTarget.RETURN,
    }


def test_what_was_sent_does_not_come_back_with_its_money():
    for word in (OrderStatus.REFUNDING, OrderStatus.REFUNDED):
        for sent in set(FulfillmentStatus) - {FulfillmentStatus.NONE}:
            assert stock_target(word, sent) == StockTarget.SETTLE


@pytest.mark.parametrize(
    ("amount", "currency", "expected"),
    [
        ("1.005", "GBP", "1.01"),
        ("1.004", "GBP", "1.00"),
        ("0.5", "JPY", "1"),
        ("1.2345", "KWD", "1.235"),
        ("2", "EUR", "2.00"),
        ("0.00005", "CLF", "0.0001"),
    ],
)
def test_money_is_rounded_half_up_to_the_decimals_of_its_currency(amount, currency, expected):
    assert str(round_money(Decimal(amount), currency)) == expected


def test_lines_of_one_sku_are_merged_at_the_first_of_them():
    merged = merge_lines([("b", 1), ("a", 2), ("b", 3), ("B", 1)])

    assert [(line.sku, line.quantity, line.first_index) for line in merged] == [("b", 4, 0), ("a", 2, 1), ("B", 1, 3)]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 999)), max_size=50))
def test_merging_keeps_every_unit(lines):
    merged = merge_lines(lines)

    assert sum(line.quantity for line in merged) == sum(quantity for _, quantity in lines)
    assert len({line.sku for line in merged}) == len(merged)
    assert all(lines[line.first_index][0] == line.sku for line in merged)


@given(
    st.lists(
        st.tuples(st.decimals("0.01", "10000", places=4), st.integers(1, 999)),
        min_size=1,
        max_size=50,
    ),
    st.sampled_from(["GBP", "JPY", "KWD"]),
)
def test_lines_sum_to_the_total_in_the_decimals_of_the_currency(lines, currency):
    line_totals = [line_total(unit_price=price, quantity=quantity, currency=currency) for price, quantity in lines]
    totals = totals_of(line_totals, currency=currency)

    assert totals.total == sum(line_totals)
    assert totals.total == totals.subtotal - totals.discount - totals.points_value + totals.shipping_fee
    assert -totals.total.as_tuple().exponent == currency_decimals(currency)


def test_a_total_below_zero_is_refused():
    with pytest.raises(ValueError, match="below zero"):
        totals_of([Decimal("1.00")], currency="GBP", discount=Decimal("1.01"))


MONEY = {"GBP": 2, "JPY": 0, "KWD": 3}


@st.composite
def amounts_to_split(draw):
    currency = draw(st.sampled_from(sorted(MONEY)))
    units = draw(st.lists(st.integers(0, 10**7), min_size=1, max_size=50))
    amount = draw(st.integers(0, sum(units)))
    places = -MONEY[currency]
    return Decimal(amount).scaleb(places), [Decimal(weight).scaleb(places) for weight in units], currency


@given(amounts_to_split())
def test_shares_sum_to_the_amount_and_are_within_a_unit_of_their_proportion(case):
    amount, weights, currency = case
    shares = split_amount(amount, weights, currency=currency)

    assert sum(shares) == amount
    assert all(0 <= share <= weight for share, weight in zip(shares, weights, strict=True))
    unit, whole = Decimal(1).scaleb(-MONEY[currency]), sum(weights)
    assert all(
        abs(share - amount * weight / whole) < unit for share, weight in zip(shares, weights, strict=True) if whole
    )


def test_of_equal_remainders_the_earlier_gets_the_unit():
    thirds = split_amount(Decimal("1.00"), [Decimal("5.00")] * 3, currency="GBP")

    assert thirds == [Decimal("0.34"), Decimal("0.33"), Decimal("0.33")]


@pytest.mark.parametrize(
    ("amount", "weights"), [("-0.01", ["1.00"]), ("1.00", ["-1.00", "2.00"]), ("1.00", ["0.00"]), ("0.001", ["1.00"])]
)
def test_what_cannot_be_split_is_refused(amount, weights):
    with pytest.raises(ValueError, match=r"negative|nothing|finer"):
        split_amount(Decimal(amount), [Decimal(weight) for weight in weights], currency="GBP")


@given(st.integers(0, 10**6), st.lists(st.integers(1, 50), min_size=1, max_size=12), st.sampled_from(sorted(MONEY)))
def test_a_line_given_back_in_parts_gives_back_what_it_cost(paid_units, parts, currency):
    paid, quantity, already, given_back = Decimal(paid_units).scaleb(-MONEY[currency]), sum(parts), 0, Decimal(0)
    for part in parts:
        amount = refund_amount(paid=paid, quantity=quantity, already=already, returning=part, currency=currency)
        assert 0 <= amount <= paid
        already, given_back = already + part, given_back + amount

    assert given_back == paid


@pytest.mark.parametrize("returning", [0, -1, 3])
def test_more_than_is_left_is_not_given_back(returning):
    with pytest.raises(ValueError, match="of 5, 3 of which"):
        refund_amount(paid=Decimal(10), quantity=5, already=3, returning=returning, currency="GBP")
