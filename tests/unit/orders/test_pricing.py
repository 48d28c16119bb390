"""What coupons take off, why they do not, which set is best, and that all shares add up."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.orders.pricing import (
    MAX_COUPONS,
    Offer,
    PricedLine,
    ShippingRule,
    WhyNot,
    best_offers,
    price_named,
    price_order,
)
from apps.promotions.domain import CouponKind
from tests.factories.coupons import terms

FREE = ShippingRule(Decimal(0))
FLAT = ShippingRule(Decimal("4.95"), Decimal("50.00"))
NOW = datetime(2026, 11, 26, tzinfo=UTC)


def lines(*totals: str) -> list[PricedLine]:
    """Lines A, B, C, ... of products 1, 2, 3, ... in categories c1, c2, c3, ..."""
    return [PricedLine(chr(ord("A") + n), n + 1, f"c{n + 1}", Decimal(total)) for n, total in enumerate(totals)]


def offer(coupon_id: int = 1, kind: CouponKind = CouponKind.AMOUNT, *, ends_in_h: int = 1, **changes) -> Offer:
    return Offer(coupon_id, terms(kind, **changes), NOW + timedelta(hours=ends_in_h))


def price(goods, *offers, shipping=FREE):
    return price_order(goods, offers, currency="GBP", shipping=shipping)


def named(goods, *offers, shipping=FREE):
    return price_named(goods, offers, currency="GBP", shipping=shipping)


def texts(amounts):
    return [str(amount) for amount in amounts]


@pytest.mark.parametrize(
    ("coupon", "discounts", "total"),
    [
        ({"amount": "5"}, ["3.33", "1.67"], "25.00"),
        ({"amount": "50"}, ["20.00", "10.00"], "0.00"),
        ({"kind": CouponKind.PERCENT, "percent": "12.5"}, ["2.50", "1.25"], "26.25"),
        ({"kind": CouponKind.PERCENT, "percent": "50", "max_discount": "1"}, ["0.67", "0.33"], "29.00"),
        ({"kind": CouponKind.PERCENT, "percent": "100"}, ["20.00", "10.00"], "0.00"),
        ({"amount": "5", "skus": ["B"]}, ["0.00", "5.00"], "25.00"),
        ({"amount": "5", "products": [1]}, ["5.00", "0.00"], "25.00"),
        ({"amount": "50", "categories": ["c2"]}, ["0.00", "10.00"], "20.00"),
        ({"amount": "5", "categories": ["c1"], "skus": ["B"]}, ["3.33", "1.67"], "25.00"),
    ],
)
def test_a_coupon_takes_off_what_it_says_of_the_goods_that_it_is_for(coupon, discounts, total):
    priced = price(lines("20.00", "10.00"), offer(**coupon))

    assert texts(priced.discounts) == discounts
    assert str(priced.totals.total) == total
    assert priced.totals.subtotal == Decimal("30.00")


def test_percentages_come_first_whatever_order_coupons_are_named_in():
    amount, share = offer(1, amount="5"), offer(2, CouponKind.PERCENT, percent="10")
    goods = lines("20.00")

    assert price(goods, amount, share).totals.total == price(goods, share, amount).totals.total == Decimal("13.00")


def test_shipping_costs_a_flat_fee_up_to_a_price_and_a_coupon_makes_it_free():
    free = offer(1, CouponKind.FREE_SHIPPING)

    assert str(price(lines("10.00"), shipping=FLAT).totals.total) == "14.95"
    assert str(price(lines("10.00"), free, shipping=FLAT).totals.total) == "10.00"
    assert str(price(lines("50.00"), shipping=FLAT).totals.total) == "50.00"
    # What the goods come to is their price before coupons: one coupon does not undo what another thing gave.
    assert str(price(lines("50.00"), offer(amount="5"), shipping=FLAT).totals.total) == "45.00"


@pytest.mark.parametrize(
    ("coupon", "why"),
    [
        ({"skus": ["Z"]}, WhyNot.SCOPE),
        ({"threshold": "30.01"}, WhyNot.THRESHOLD),
        ({"threshold": "10.01", "skus": ["B"]}, WhyNot.THRESHOLD),
        ({"currency": "EUR"}, WhyNot.CURRENCY),
        ({"kind": CouponKind.FREE_SHIPPING}, WhyNot.NO_EFFECT),
        ({"kind": CouponKind.PERCENT, "percent": "0.01", "skus": ["B"]}, WhyNot.NO_EFFECT),
    ],
)
def test_a_coupon_that_does_not_apply_says_why(coupon, why):
    priced, refused = named(lines("20.00", "10.00"), offer(**coupon))

    assert refused == {0: why}
    assert priced.taken == {}
    assert priced.totals.total == Decimal("30.00")


@pytest.mark.parametrize(("threshold", "skus"), [("30.00", []), ("10.00", ["B"])])
def test_the_threshold_itself_is_enough(threshold, skus):
    assert named(lines("20.00", "10.00"), offer(threshold=threshold, skus=skus))[1] == {}


def test_several_coupons_go_together_only_if_all_are_stackable():
    one, two = offer(1, stackable=True), offer(2, stackable=True)
    alone = offer(3)
    goods = lines("20.00")

    assert named(goods, one, two)[1] == {}
    assert named(goods, one, alone, two)[1] == {1: WhyNot.NOT_STACKABLE}
    assert named(goods, alone, one)[1] == {1: WhyNot.NOT_STACKABLE}
    assert named(goods, one, one)[1] == {1: WhyNot.REPEATED}
    assert named(goods, WhyNot.EXPIRED, alone)[1] == {0: WhyNot.EXPIRED}


def test_a_coupon_for_which_nothing_is_left_is_not_wasted():
    all_of_it, more = offer(1, stackable=True, amount="20"), offer(2, stackable=True)

    priced, refused = named(lines("20.00"), all_of_it, more)

    assert refused == {1: WhyNot.NO_EFFECT}
    assert set(priced.taken) == {1}


def test_the_best_set_saves_most_with_the_fewest_coupons_and_those_that_end_first():
    goods = lines("20.00")
    small, large = offer(1, amount="2", stackable=True), offer(2, amount="3", stackable=True)
    alone = offer(3, amount="4")

    def best(*offers, shipping=FREE):
        return [each.coupon_id for each in best_offers(goods, offers, currency="GBP", shipping=shipping)]

    assert best(small, large, alone) == [1, 2]
    assert best(small, alone) == [3]
    assert best(offer(4, amount="20", ends_in_h=2), offer(5, amount="30", ends_in_h=1)) == [5]
    assert best(offer(4, amount="20", stackable=True), small) == [4]
    assert best(offer(4, threshold="99"), offer(5, CouponKind.FREE_SHIPPING)) == []
    assert best(offer(5, CouponKind.FREE_SHIPPING), offer(6, amount="4.94"), shipping=FLAT) == [5]


# -- whatever the coupons are -----------------------------------------------------------------------------------------

money = st.integers(1, 5000).map(lambda cents: Decimal(cents).scaleb(-2))
baskets = st.lists(money, min_size=1, max_size=5).map(lambda totals: lines(*map(str, totals)))


@st.composite
def offers(draw, *, max_size: int = 4) -> list[Offer]:
    found = []
    for coupon_id in range(1, draw(st.integers(1, max_size)) + 1):
        kind = draw(st.sampled_from(CouponKind))
        values: dict = {"stackable": draw(st.booleans())}
        if kind == CouponKind.AMOUNT:
            values["amount"] = draw(money)
        elif kind == CouponKind.PERCENT:
            values["percent"] = Decimal(draw(st.integers(1, 10_000))).scaleb(-2)
            values["max_discount"] = draw(st.none() | money)
            if values["max_discount"] is None:
                del values["max_discount"]
        if draw(st.booleans()):
            values["skus"] = draw(st.sets(st.sampled_from("ABCDE"), min_size=1))
        if draw(st.booleans()):
            values["threshold"] = draw(money)
        found.append(offer(coupon_id, kind, ends_in_h=coupon_id, **values))
    return found


@given(baskets, offers())
def test_shares_add_up_and_no_line_goes_below_zero(goods, coupons):
    priced, refused = named(goods, *coupons, shipping=FLAT)

    totals = priced.totals
    assert sum(priced.discounts) == totals.discount == sum(priced.taken.values())
    assert all(0 <= share <= line.line_total for share, line in zip(priced.discounts, goods, strict=True))
    assert totals.total == totals.subtotal - totals.discount + totals.shipping_fee >= 0
    assert len(priced.taken) == len(coupons) - len(refused)


@given(baskets, offers(), st.randoms(use_true_random=False))
def test_coupons_that_apply_make_one_total_in_whatever_order_they_are_named(goods, coupons, random):
    accepted = [each for n, each in enumerate(coupons) if n not in named(goods, *coupons, shipping=FLAT)[1]]
    shuffled = random.sample(accepted, len(accepted))

    assert price(goods, *accepted, shipping=FLAT) == price(goods, *shuffled, shipping=FLAT)


@given(baskets, offers())
def test_no_set_of_a_few_coupons_saves_more_than_the_suggested_one(goods, coupons):
    best = best_offers(goods, coupons, currency="GBP", shipping=FLAT)
    total = price(goods, *best, shipping=FLAT).totals.total

    assert named(goods, *best, shipping=FLAT)[1] == {}
    for size in range(len(coupons) + 1):
        for some in combinations(coupons, size):
            priced, refused = named(goods, *some, shipping=FLAT)
            if not refused:
                assert priced.totals.total >= total


def test_of_very_many_coupons_a_good_set_is_found_fast():
    coupons = [offer(n, amount=str(n), stackable=True) for n in range(1, 101)]

    best = best_offers(lines("10000.00"), coupons, currency="GBP", shipping=FREE)

    assert {each.coupon_id for each in best} == set(range(101 - MAX_COUPONS, 101))
