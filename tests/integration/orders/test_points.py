"""Points in the life of an order: used when it is placed, restored, earned, clawed back, each with its transition."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.conf import settings
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.orders.errors import InsufficientPoints, InsufficientStock, PriceChanged
from apps.orders.selectors import get_order
from apps.orders.services import points as order_points
from apps.orders.services.cancellation import cancel_order
from apps.orders.services.expiry import expire_orders
from apps.orders.services.payment import record_refund_outcome
from apps.orders.services.placement import commit_once, place_order
from apps.orders.types import OrderView
from apps.payments.types import RefundOutcome, RefundStatus
from apps.promotions.points import statements
from infra.errors import ValidationFailed
from infra.sharding.places import place_of_user
from tests.factories.inventory import counters
from tests.factories.orders import Buyer, complete_draft, expire_at, make_buyer, make_sku, order_request, placed_order
from tests.factories.points import balance, complete, findings, grant, refund, story
from tests.factories.promotions import pay

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))


@pytest.fixture(params=[0, 1])
def buyer(request: pytest.FixtureRequest) -> Buyer:
    buyer = make_buyer(shard=request.param)
    grant(buyer.user_id, 1000)
    return buyer


def now_of(order: OrderView) -> OrderView:
    return get_order(user_id=order.user_id, order_id=order.id)


def cancelled(order: OrderView) -> OrderView:
    return cancel_order(user_id=order.user_id, order_id=order.id, reason="", now=timezone.now())


def test_points_pay_a_part_of_an_order_and_are_shared_out_over_its_lines(buyer: Buyer) -> None:
    one, other = make_sku(price="3.33"), make_sku(price="6.67")
    order = placed_order(buyer, [(one, 1), (other, 1)], points=100, expected_total=Decimal("9.00"))
    assert (order.points_used, str(order.points_value), str(order.total)) == (100, "1.00", "9.00")
    assert [str(line.points_value) for line in order.items] == ["0.33", "0.67"]
    assert now_of(order) == order
    assert balance(buyer.user_id) == 900
    assert story(buyer.user_id) == [("granted", 1000, 0), ("spent", -100, 0)]
    assert findings(buyer.user_id, order.id) == []


def test_no_more_points_are_used_than_may_pay_of_the_total(buyer: Buyer) -> None:
    order = placed_order(buyer, [(make_sku(price="3.33"), 1)], points=1000)
    assert (order.points_used, str(order.total)) == (166, "1.67")
    assert balance(buyer.user_id) == 834


def test_the_share_is_a_setting_of_the_staff(buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_points.MAX_SHARE_PERCENT, "value", 0)
    order = placed_order(buyer, [(make_sku(price="3.33"), 1)], points=1000)
    assert (order.points_used, balance(buyer.user_id)) == (0, 1000)


def test_more_points_than_one_has_are_refused_and_nothing_is_taken(buyer: Buyer) -> None:
    sku = make_sku(5)
    with pytest.raises(InsufficientPoints) as refusal:
        placed_order(buyer, [(sku, 1)], points=1001)
    assert [error.field for error in refusal.value.errors] == ["/points"]
    assert balance(buyer.user_id) == 1000
    assert counters(sku) == (5, 0)


def test_points_have_no_worth_in_other_currencies(buyer: Buyer, settings: object) -> None:
    settings.POINTS_VALUE = {}
    with pytest.raises(ValidationFailed) as refusal:
        placed_order(buyer, [(make_sku(), 1)], points=1)
    assert [(error.field, error.code) for error in refusal.value.errors] == [("/points", "not_usable")]


def test_the_expected_total_is_the_one_after_points(buyer: Buyer) -> None:
    with pytest.raises(PriceChanged) as refusal:
        placed_order(buyer, [(make_sku(price="3.00"), 1)], points=100, expected_total=Decimal("3.00"))
    assert refusal.value.errors[0].extra == {"total": "2.00"}


def test_a_repeat_of_the_key_spends_once(buyer: Buyer) -> None:
    request = order_request(buyer, [(make_sku(), 1)], points=100, key="k")
    first = place_order(request, now=timezone.now())
    again = place_order(request, now=timezone.now())
    assert again.replayed
    assert again.order == first.order
    assert balance(buyer.user_id) == 900


def test_an_order_without_points_asks_nothing_of_them(buyer: Buyer) -> None:
    alias, sku = place_of_user(buyer.user_id).alias, make_sku()
    with CaptureQueriesContext(connections[alias]) as queries:
        order = placed_order(buyer, [(sku, 1)])
        cancelled(order)
    assert [query["sql"] for query in queries if "promotions_points" in query["sql"]] == []


def test_members_of_a_batch_are_refused_alone(buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two orders of one shopper that are too much together, one out of stock, and another shopper's."""
    shard = settings.SHARD_ALIASES.index(place_of_user(buyer.user_id).alias)
    sku, short = make_sku(10, price="100.00"), make_sku(0, price="100.00")
    neighbour = make_buyer(shard=shard)
    drafts = [
        complete_draft(order_request(buyer, [(short, 1)], points=600)),
        complete_draft(order_request(buyer, [(sku, 1)], points=600)),
        complete_draft(order_request(buyer, [(sku, 2)], points=600)),
        complete_draft(order_request(neighbour, [(sku, 3)])),
        complete_draft(order_request(neighbour, [(sku, 1)], points=1)),
    ]
    written: list[int] = []
    insert_entries = statements.insert_entries
    monkeypatch.setattr(
        statements, "insert_entries", lambda *args, **kwargs: (written.append(1), insert_entries(*args, **kwargs))[1]
    )

    outcomes = commit_once(place_of_user(buyer.user_id).alias, drafts, now=timezone.now())

    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [InsufficientStock, OrderView, InsufficientPoints, OrderView, InsufficientPoints]
    assert balance(buyer.user_id) == 400
    assert counters(sku) == (10, 4)
    assert len(written) == 1
    assert findings(buyer.user_id, *(draft.order.id for draft in drafts)) == []


def test_orders_of_one_shopper_in_a_batch_are_spent_for_together(buyer: Buyer) -> None:
    alias = place_of_user(buyer.user_id).alias
    sku = make_sku(10, price="100.00")
    drafts = [complete_draft(order_request(buyer, [(sku, 1)], points=points)) for points in (100, 200, 300)]
    with CaptureQueriesContext(connections[alias]) as queries:
        outcomes = commit_once(alias, drafts, now=timezone.now())
    assert [outcome.points_used for outcome in outcomes] == [100, 200, 300]
    assert balance(buyer.user_id) == 400
    about_points = [query["sql"].split()[0] for query in queries if "promotions_points" in query["sql"]]
    assert about_points == ["SELECT", "UPDATE", "SELECT", "UPDATE", "INSERT"]


def test_damaged_lots_keep_their_owner_from_spending_and_nobody_else(buyer: Buyer) -> None:
    alias = place_of_user(buyer.user_id).alias
    neighbour, sku = make_buyer(shard=settings.SHARD_ALIASES.index(alias)), make_sku(10)
    with connections[alias].cursor() as cursor:
        cursor.execute("DELETE FROM promotions_points_lot WHERE user_id = %s", [buyer.user_id])
    drafts = [
        complete_draft(order_request(buyer, [(sku, 1)], points=100)),
        complete_draft(order_request(neighbour, [(sku, 1)])),
    ]
    outcomes = commit_once(alias, drafts, now=timezone.now())
    assert [type(outcome) for outcome in outcomes] == [InsufficientPoints, OrderView]
    assert counters(sku) == (10, 1)


def test_a_cancelled_order_gives_its_points_back_once(buyer: Buyer) -> None:
    order = placed_order(buyer, [(make_sku(), 1)], points=100)
    cancelled(order)
    cancelled(order)
    assert balance(buyer.user_id) == 1000
    assert story(buyer.user_id)[1:] == [("spent", -100, 0), ("restored", 100, 0)]
    assert findings(buyer.user_id, order.id) == []


def test_expired_orders_give_their_points_back_as_one_batch(buyer: Buyer) -> None:
    orders = [placed_order(buyer, [(make_sku(), 1)], points=points) for points in (100, 0, 50)]
    for order in orders:
        expire_at(order.id, timezone.now() - timedelta(seconds=1))
    expire_orders(now=timezone.now())
    assert {now_of(order).status for order in orders} == {"expired"}
    assert balance(buyer.user_id) == 1000
    assert findings(buyer.user_id, *(order.id for order in orders)) == []


def test_an_order_cancelled_after_payment_gives_its_points_back_when_the_money_has_gone_back(buyer: Buyer) -> None:
    order = placed_order(buyer, [(make_sku(price="4.00"), 1)], points=100)
    pay(order)
    assert cancelled(order).status == "refunding"
    assert balance(buyer.user_id) == 900
    record_refund_outcome(
        order_id=order.id, n=1, try_n=1, outcome=RefundOutcome(RefundStatus.SUCCEEDED), now=timezone.now()
    )
    assert now_of(order).status == "refunded"
    assert balance(buyer.user_id) == 1000
    assert findings(buyer.user_id, order.id) == []


def test_a_completed_order_earns_and_partial_refunds_are_exact(buyer: Buyer) -> None:
    sku = make_sku(price="10.00")
    order = placed_order(buyer, [(sku, 3)], points=100)
    pay(order)
    complete(order)
    assert now_of(order).status == "completed"
    assert story(buyer.user_id)[2:] == [("earned", 29, 0)]
    for _ in range(2):
        refund(order, "9.66", {sku: 1})
    assert balance(buyer.user_id) == 900 + 29 + 66 - 20
    assert findings(buyer.user_id, order.id) == []
    refund(order, "9.68", {sku: 1})
    assert now_of(order).status == "refunded"
    assert balance(buyer.user_id) == 1000
    assert findings(buyer.user_id, order.id) == []


def test_what_was_refunded_before_an_order_completed_earns_nothing(buyer: Buyer) -> None:
    sku = make_sku(price="10.00")
    order = placed_order(buyer, [(sku, 4)])
    pay(order)
    refund(order, "10.00", {sku: 1})
    complete(order)
    assert balance(buyer.user_id) == 1030
    assert findings(buyer.user_id, order.id) == []


def test_points_that_were_spent_meanwhile_are_owed(buyer: Buyer) -> None:
    order = placed_order(buyer, [(make_sku(price="100.00"), 1)])
    pay(order)
    complete(order)
    placed_order(buyer, [(make_sku(price="100.00"), 1)], points=1100)
    refund(order, "100.00", {})
    assert balance(buyer.user_id) == 0
    assert story(buyer.user_id)[-1] == ("clawed_back", 0, 100)
    assert findings(buyer.user_id, order.id) == []


def test_nothing_is_earned_where_the_rule_says_so(buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_points.EARNED_PER_MILLE, "value", 0)
    order = placed_order(buyer, [(make_sku(price="100.00"), 1)])
    pay(order)
    complete(order)
    refund(order, "100.00", {})
    assert story(buyer.user_id) == [("granted", 1000, 0)]
