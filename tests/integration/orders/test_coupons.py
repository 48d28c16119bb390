"""Orders with coupons: what they cost, who has the coupon, and when it comes back."""

import dataclasses
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import OperationalError, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from msgspec.structs import replace

from apps.orders.errors import CouponNotApplicable, InsufficientStock, OrderNotPayable, PriceChanged
from apps.orders.models import OrderLine
from apps.orders.selectors import get_order
from apps.orders.services import discounting, placement
from apps.orders.services.cancellation import cancel_order
from apps.orders.services.expiry import expire_orders
from apps.orders.services.free_orders import settle_free_order, settle_free_orders
from apps.orders.services.payment import record_refund_outcome, start_payment
from apps.orders.services.placement import place_order
from apps.orders.services.quoting import quote_order
from apps.orders.services.shipping_fee import FLAT_FEE, FREE_FROM
from apps.orders.services.stock import sync_due_stock
from apps.orders.types import PaymentRequest, QuoteRequest
from apps.payments.selectors import refunds_of
from apps.payments.types import RefundOutcome, RefundStatus
from apps.promotions.domain import CouponKind
from apps.promotions.errors import CouponsChanged
from apps.promotions.models import HeldCouponState
from apps.promotions.selectors import forget_cached_templates
from apps.promotions.services import change_template, grant_coupon
from infra.errors import Overloaded
from infra.followups.services import due
from infra.sharding.places import place_of_order, place_of_user
from tests.factories.coupons import coupon_row, give_coupon, make_template
from tests.factories.inventory import counters
from tests.factories.orders import (
    event_versions,
    expire_at,
    make_buyer,
    make_sku,
    order_request,
    placed_order,
)
from tests.factories.promotions import pay

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture(autouse=True)
def look_again() -> None:
    forget_cached_templates()


@pytest.fixture
def paid_shipping(monkeypatch):
    """Shipping costs 4.95, and nothing from 50.00 on."""
    monkeypatch.setattr(FLAT_FEE, "value", 495)
    monkeypatch.setattr(FREE_FROM, "value", 5000)


def place(buyer, items, *coupons, **changes):
    request = order_request(buyer, items, coupons=tuple(map(str, coupons)), **changes)
    return place_order(request, now=timezone.now()).order


def refused(buyer, items, *coupons, **changes):
    with pytest.raises(CouponNotApplicable) as refusal:
        place(buyer, items, *coupons, **changes)
    return [(error.field, error.extra["reason"]) for error in refusal.value.errors]


def state(buyer, coupon_id):
    row = coupon_row(buyer.user_id, coupon_id)
    return HeldCouponState(row.state).label, row.order_id


@pytest.mark.parametrize("shard", [0, 1])
def test_an_order_with_coupons_costs_less_and_has_them(shard):
    buyer = make_buyer(shard=shard)
    lamp, rug = make_sku(price="20.00"), make_sku(price="10.00")
    share = give_coupon(buyer.user_id, CouponKind.PERCENT, percent="10", stackable=True)
    amount = give_coupon(buyer.user_id, amount="5", skus=[rug], stackable=True)

    order = place(buyer, [(lamp, 1), (rug, 1)], amount, share, expected_total=Decimal("22"))

    assert (order.subtotal, order.discount, order.total) == (Decimal("30.00"), Decimal("8.00"), Decimal("22.00"))
    assert [str(item.discount) for item in order.items] == ["2.00", "6.00"]
    assert order.coupons == (str(amount), str(share))
    assert get_order(user_id=buyer.user_id, order_id=order.id) == order
    assert state(buyer, share) == state(buyer, amount) == ("redeemed", order.id)
    assert coupon_row(buyer.user_id, share).discount == Decimal("3")
    stored = OrderLine.objects.for_order(order.id).filter(order_id=order.id).order_by("line")
    assert [line.discount for line in stored] == [Decimal(2), Decimal(6)]


def test_a_coupon_of_a_category_or_product_is_for_its_goods():
    buyer, sku = make_buyer(), make_sku(price="10.00")

    order = place(buyer, [(sku, 1)], give_coupon(buyer.user_id, categories=["tests"]))

    assert order.discount == Decimal("1.00")
    assert refused(buyer, [(sku, 1)], give_coupon(buyer.user_id, categories=["others"])) == [("/coupons/0", "scope")]


def test_the_same_request_again_gets_the_order_with_its_coupons():
    buyer, sku = make_buyer(), make_sku(price="10.00")
    request = order_request(buyer, [(sku, 1)], coupons=(str(give_coupon(buyer.user_id)),))
    first = place_order(request, now=timezone.now())
    cancel_order(user_id=buyer.user_id, order_id=first.order.id, reason="", now=timezone.now())

    again = place_order(request, now=timezone.now())

    assert (again.replayed, again.order) == (True, first.order)


def test_every_coupon_that_does_not_apply_is_told_and_nothing_is_taken():
    buyer, other, sku = make_buyer(), make_buyer(), make_sku(5, price="10.00")
    fine = give_coupon(buyer.user_id, stackable=True)
    used = give_coupon(buyer.user_id)
    place(buyer, [(sku, 1)], used)

    told = refused(
        buyer,
        [(sku, 1)],
        fine,
        give_coupon(other.user_id),
        used,
        give_coupon(buyer.user_id, threshold="10.01", stackable=True),
        fine,
        give_coupon(buyer.user_id),
        "x",
        "0",
    )

    assert told == [
        ("/coupons/1", "unknown"),
        ("/coupons/2", "redeemed"),
        ("/coupons/3", "threshold"),
        ("/coupons/4", "repeated"),
        ("/coupons/5", "not_stackable"),
        ("/coupons/6", "unknown"),
        ("/coupons/7", "unknown"),
    ]
    assert state(buyer, fine) == ("held", None)
    assert counters(sku) == (5, 1)


def test_an_expired_coupon_and_one_that_the_shop_has_stopped_do_not_apply():
    buyer, sku = make_buyer(), make_sku(price="10.00")
    expired = give_coupon(buyer.user_id)
    coupon = coupon_row(buyer.user_id, expired)
    with connections[coupon._state.db].cursor() as cursor:
        cursor.execute("UPDATE promotions_coupon SET expires_at = '2020-01-01' WHERE id = %s", [expired])
    template = make_template(is_listed=False)
    stopped = grant_coupon(user_id=buyer.user_id, template_id=template.id, by="", reason="", now=timezone.now())
    change_template(template.id, {"is_active": False}, by="ada", reason="abused", now=timezone.now())

    assert refused(buyer, [(sku, 1)], expired) == [("/coupons/0", "expired")]
    assert refused(buyer, [(sku, 1)], stopped) == [("/coupons/0", "withdrawn")]


def test_a_total_that_the_client_did_not_expect_takes_no_coupon():
    buyer, sku = make_buyer(), make_sku(5, price="10.00")
    coupon = give_coupon(buyer.user_id)

    with pytest.raises(PriceChanged) as refusal:
        place(buyer, [(sku, 1)], coupon, expected_total=Decimal("10.00"))

    assert refusal.value.errors[0].extra == {"total": "9.00"}
    assert state(buyer, coupon) == ("held", None)


def test_a_shortage_takes_no_coupon():
    buyer, sku = make_buyer(), make_sku(0, price="10.00")
    coupon = give_coupon(buyer.user_id)

    with pytest.raises(InsufficientStock):
        place(buyer, [(sku, 1)], coupon)
    assert state(buyer, coupon) == ("held", None)


# -- coming back ------------------------------------------------------------------------------------------------------


def ended_by_cancelling(order):
    cancel_order(user_id=order.user_id, order_id=order.id, reason="", now=timezone.now())


def ended_by_expiry(order):
    expire_at(order.id, timezone.now() - timedelta(seconds=1))
    expire_orders(now=timezone.now())


def ended_by_a_refund(order):
    pay(order)
    ended_by_cancelling(order)
    assert state_of_only_coupon(order) == ("redeemed", order.id)  # until the money is back
    [refund] = refunds_of(order.id)
    for status in (RefundStatus.PROCESSING, RefundStatus.SUCCEEDED):
        record_refund_outcome(order_id=order.id, n=refund.n, try_n=1, outcome=RefundOutcome(status), now=timezone.now())


def state_of_only_coupon(order):
    [coupon] = order.coupons
    row = coupon_row(order.user_id, int(coupon))
    return HeldCouponState(row.state).label, row.order_id


@pytest.mark.parametrize("end", [ended_by_cancelling, ended_by_expiry, ended_by_a_refund])
def test_the_coupon_of_an_order_that_has_ended_can_be_used_again(end):
    buyer, sku = make_buyer(), make_sku(5, price="10.00")
    coupon = give_coupon(buyer.user_id)
    order = place(buyer, [(sku, 1)], coupon)

    end(order)

    assert get_order(user_id=buyer.user_id, order_id=order.id).status in ("cancelled", "expired", "refunded")
    assert state(buyer, coupon) == ("held", None)
    assert place(buyer, [(sku, 1)], coupon).discount == Decimal("1.00")


def test_an_order_gives_back_only_what_it_has_itself():
    buyer, sku = make_buyer(), make_sku(5, price="10.00")
    coupon = give_coupon(buyer.user_id)
    first = place(buyer, [(sku, 1)], coupon)
    ended_by_cancelling(first)
    second = place(buyer, [(sku, 1)], coupon)

    pay(first)  # a late payment changes the ended order once more

    assert state(buyer, coupon) == ("redeemed", second.id)


# -- batches ----------------------------------------------------------------------------------------------------------


def drafts_of(*requests):
    return [placement.draft_order(request) for request in requests]


def outcomes_of(alias, drafts):
    outcomes = placement.commit_once(alias, drafts, now=timezone.now())
    return [type(outcome).__name__ for outcome in outcomes]


def wish(buyer, sku, *coupons):
    return order_request(buyer, [(sku, 1)], coupons=tuple(map(str, coupons)))


def test_of_a_batch_each_member_has_its_own_outcome():
    one, two = make_buyer(shard=0), make_buyer(shard=0)
    sku, gone = make_sku(10, price="10.00"), make_sku(0, price="10.00")
    shared, failing = give_coupon(one.user_id), give_coupon(one.user_id)

    told = outcomes_of(
        "shard_0",
        drafts_of(
            wish(two, sku),
            wish(one, gone, shared),  # short, so the next one has the coupon
            wish(one, sku, shared),
            wish(one, sku, shared),
            wish(two, sku, failing),
            wish(two, sku, give_coupon(two.user_id)),
        ),
    )

    assert told == [
        "OrderView",
        "InsufficientStock",
        "OrderView",
        "CouponNotApplicable",
        "CouponNotApplicable",
        "OrderView",
    ]
    assert counters(sku) == (10, 3)


def test_a_coupon_that_goes_after_it_was_read_harms_nobody_else(monkeypatch):
    one, two = make_buyer(shard=0), make_buyer(shard=0)
    sku = make_sku(10, price="10.00")
    lost, kept = give_coupon(one.user_id), give_coupon(two.user_id)
    drafts = drafts_of(wish(two, sku), wish(one, sku, lost), wish(two, sku, kept))
    reserve = placement.inventory.reserve

    def reserve_while_another_order_takes_it(claims, *, now):
        if len(claims) == 3:
            monkeypatch.setattr(placement.inventory, "reserve", reserve)
            place(one, [(sku, 1)], lost)
        return reserve(claims, now=now)

    monkeypatch.setattr(placement.inventory, "reserve", reserve_while_another_order_takes_it)

    assert outcomes_of("shard_0", drafts) == ["OrderView", "CouponNotApplicable", "OrderView"]
    assert counters(sku) == (10, 3)


def test_a_coupon_that_was_given_back_while_its_order_was_refused_asks_to_come_again(monkeypatch):
    buyer, sku = make_buyer(), make_sku(5, price="10.00")
    coupon = give_coupon(buyer.user_id)

    def redeem(*args, **kwargs):
        raise CouponsChanged

    monkeypatch.setattr(placement, "redeem_coupons_of", redeem)
    with pytest.raises(Overloaded):
        place(buyer, [(sku, 1)], coupon)
    assert counters(sku) == (5, 0)


def test_templates_that_cannot_be_read_concern_only_those_who_name_coupons(monkeypatch):
    buyer, sku = make_buyer(shard=0), make_sku(10, price="10.00")
    coupon = give_coupon(buyer.user_id)

    def away(template_ids):
        raise OperationalError(2002, "away")

    monkeypatch.setattr(discounting, "templates_of", away)

    assert outcomes_of("shard_0", drafts_of(wish(buyer, sku), wish(buyer, sku, coupon))) == [
        "OrderView",
        "OperationalError",
    ]
    assert counters(sku) == (10, 1)


def test_a_batch_with_coupons_costs_two_statements_more_whatever_its_size():
    people = [make_buyer(shard=0) for _ in range(3)]
    sku = make_sku(100, price="10.00")
    for buyer in people:
        placed_order(buyer, [(sku, 1)])
    counts = []
    for named in ((), people):
        drafts = drafts_of(
            *(wish(buyer, sku, *([give_coupon(buyer.user_id)] if buyer in named else [])) for buyer in people)
        )
        with CaptureQueriesContext(connections["shard_0"]) as on_shard:
            assert outcomes_of("shard_0", drafts) == ["OrderView"] * 3
        counts.append(len(on_shard.captured_queries))

    assert counts[1] == counts[0] + 2  # one reads the coupons, one redeems them


# -- shipping and quotes ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("paid_shipping")
def test_shipping_is_paid_unless_the_goods_or_a_coupon_make_it_free():
    buyer, sku = make_buyer(), make_sku(price="10.00")

    plain = place(buyer, [(sku, 1)], expected_total=Decimal("14.95"))
    many = place(buyer, [(sku, 5)])
    free = place(buyer, [(sku, 1)], give_coupon(buyer.user_id, CouponKind.FREE_SHIPPING))

    assert [(order.shipping_fee, order.total) for order in (plain, many, free)] == [
        (Decimal("4.95"), Decimal("14.95")),
        (Decimal(0), Decimal("50.00")),
        (Decimal(0), Decimal("10.00")),
    ]
    assert get_order(user_id=buyer.user_id, order_id=plain.id) == plain


def quote(buyer, items, *coupons, **changes):
    request = QuoteRequest(user_id=buyer.user_id, items=tuple(items), coupons=tuple(map(str, coupons)), **changes)
    return quote_order(request, now=timezone.now())


@pytest.mark.usefixtures("paid_shipping")
def test_placing_costs_what_was_quoted():
    buyer, lamp, rug = make_buyer(), make_sku(price="7.77"), make_sku(price="3.33")
    coupons = [
        give_coupon(buyer.user_id, CouponKind.PERCENT, percent="33.33", stackable=True),
        give_coupon(buyer.user_id, amount="1.01", skus=[rug], stackable=True),
        give_coupon(buyer.user_id, CouponKind.FREE_SHIPPING, stackable=True),
    ]
    items = [(lamp, 1), (rug, 2), (lamp, 1)]

    quoted = quote(buyer, items, *coupons, address_id=buyer.address_id)
    order = place(buyer, items, *coupons, expected_total=quoted.total)

    assert all(coupon.applicable for coupon in quoted.coupons)
    assert (quoted.subtotal, quoted.discount, quoted.shipping_fee) == (
        order.subtotal,
        order.discount,
        order.shipping_fee,
    )
    assert quoted.items == order.items
    assert sum(coupon.discount for coupon in quoted.coupons) == order.discount


def test_a_quote_leaves_out_what_does_not_apply_and_suggests_the_best():
    buyer, sku = make_buyer(), make_sku(price="20.00")
    used = give_coupon(buyer.user_id)
    place(buyer, [(sku, 1)], used)
    small = give_coupon(buyer.user_id, amount="2", stackable=True)
    large = give_coupon(buyer.user_id, amount="3", stackable=True)
    alone = give_coupon(buyer.user_id, amount="4")

    quoted = quote(buyer, [(sku, 1)], used, alone, small)

    assert [(coupon.applicable, coupon.reason, str(coupon.discount)) for coupon in quoted.coupons] == [
        (False, "redeemed", "0.00"),
        (True, None, "4.00"),
        (False, "not_stackable", "0.00"),
    ]
    assert str(quoted.total) == "16.00"
    assert quoted.suggested.coupons == (str(small), str(large))
    assert str(quoted.suggested.total) == "15.00"
    assert state(buyer, alone) == ("held", None)


def test_coupons_are_restored_and_redeemed_on_their_users_place_only():
    buyer = make_buyer(shard=1)
    coupon = give_coupon(buyer.user_id)

    assert coupon_row(buyer.user_id, coupon)._state.db == place_of_user(buyer.user_id).alias == "shard_1"


# -- orders that cost nothing -----------------------------------------------------------------------------------------


@pytest.fixture
def free_order():
    buyer, sku = make_buyer(), make_sku(5, price="10.00")
    return place(buyer, [(sku, 1)], give_coupon(buyer.user_id, amount="99")), sku


def now_of(order):
    return get_order(user_id=order.user_id, order_id=order.id)


def test_an_order_that_costs_nothing_is_paid_by_itself(free_order):
    order, sku = free_order
    assert (str(order.total), order.status) == ("0.00", "pending_payment")

    for _ in range(2):
        settle_free_orders(now=timezone.now() + timedelta(seconds=1))
    sync_due_stock(now=timezone.now() + timedelta(seconds=1))

    assert (now_of(order).status, now_of(order).payment_status) == ("paid", "paid")
    assert event_versions(order.id) == [(1, "placed"), (2, "paid")]
    assert counters(sku) == (4, 0)
    assert due(place_of_order(order.id).alias, kind="free", now=timezone.now() + timedelta(minutes=1)) == []


def test_an_order_that_costs_nothing_takes_no_payment(free_order):
    order, _ = free_order
    request = PaymentRequest(key=order_request(make_buyer(), []).key, order_id=order.id, provider="sandbox")
    own = replace(request.key, user_id=order.user_id)

    with pytest.raises(OrderNotPayable):
        start_payment(dataclasses.replace(request, key=own), render=lambda attempt: b"", now=timezone.now())


def test_a_paid_order_that_cost_nothing_is_given_back_by_itself(free_order):
    order, sku = free_order
    settle_free_order(order.id, now=timezone.now())

    ended_by_cancelling(order)
    assert now_of(order).status == "refunding"
    settle_free_orders(now=timezone.now() + timedelta(seconds=1))
    sync_due_stock(now=timezone.now() + timedelta(seconds=1))

    assert now_of(order).status == "refunded"
    assert state_of_only_coupon(order) == ("held", None)
    assert counters(sku) == (5, 0)


def test_an_unpaid_order_that_costs_nothing_can_be_cancelled(free_order):
    order, _ = free_order

    ended_by_cancelling(order)
    settle_free_orders(now=timezone.now() + timedelta(seconds=1))

    assert now_of(order).status == "cancelled"
    assert state_of_only_coupon(order) == ("held", None)
