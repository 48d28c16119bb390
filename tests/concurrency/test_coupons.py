"""Shoppers who claim one coupon at once: exactly the total is given out, nobody has more than the limit; and the same
without the guards, to show that these tests would see it."""

from collections.abc import Collection
from itertools import count
from threading import Barrier
from typing import Any

import pytest
from django.db import connections

from apps.orders.errors import CouponNotApplicable
from apps.orders.types import OrderView
from apps.promotions.models import CouponTemplate, HeldCouponState
from apps.promotions.services import coupon_claims, redeeming
from apps.promotions.types import Template
from infra.sharding.places import shard_aliases
from tests.concurrency.test_orders import at_once, buyers, place, told
from tests.factories.coupons import claim, claim_key, claimed_count, claims_of, coupon_row, give_coupon, make_template
from tests.factories.inventory import counters
from tests.factories.orders import make_buyer, make_sku, order_request

pytestmark = pytest.mark.usefixtures("committed")


def held(template: Template) -> int:
    """Return how many coupons of the template all shards hold."""
    count = 0
    for alias in shard_aliases():
        with connections[alias].cursor() as cursor:
            cursor.execute(
                "SELECT COUNT(*) FROM promotions_coupon WHERE template_id = %s AND state = %s",
                [template.id, HeldCouponState.HELD],
            )
            count += cursor.fetchone()[0]
    return count


def claim_at_once(template: Template, user_ids: list[int]) -> list[Any]:
    return at_once([lambda user_id=user_id: claim(user_id, template) for user_id in user_ids])


def test_of_125_shoppers_25_get_the_25_coupons() -> None:
    template, people = make_template(total_limit=25), buyers(125)

    outcomes = claim_at_once(template, [buyer.user_id for buyer in people])

    assert told(outcomes) == {"int": 25, "CouponExhausted": 100}
    assert held(template) == claimed_count(template) == len(claims_of(template)) == 25


def test_without_the_guarded_counter_more_are_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: the guard is taken out, and the race made certain."""
    barrier = Barrier(8)

    def count_by_looking(template_id: int, count: int, *, now: object) -> bool:
        row = CouponTemplate.objects.get(id=template_id)
        barrier.wait(timeout=10)
        CouponTemplate.objects.filter(id=template_id).update(claimed_count=row.claimed_count + count)
        return row.claimed_count < row.total_limit

    monkeypatch.setattr(coupon_claims, "count_claims", count_by_looking)
    template, people = make_template(total_limit=1), [make_buyer() for _ in range(8)]

    claim_at_once(template, [buyer.user_id for buyer in people])

    assert held(template) == 8


def test_one_shopper_who_claims_twenty_times_at_once_gets_the_limit() -> None:
    template, buyer = make_template(per_user_limit=2), make_buyer()

    outcomes = claim_at_once(template, [buyer.user_id] * 20)

    assert told(outcomes) == {"int": 2, "LimitReached": 18}
    assert held(template) == claimed_count(template) == 2


def test_without_the_unique_number_one_shopper_gets_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: each claim has a number of its own, and all have looked before any is written."""
    barrier, numbers = Barrier(8), count(1)

    def any_number(taken: Collection[int], *, limit: int) -> int | None:
        barrier.wait(timeout=10)
        return next(numbers) if len(taken) < limit else None

    monkeypatch.setattr(coupon_claims, "first_free", any_number)
    template, buyer = make_template(per_user_limit=1), make_buyer()

    claim_at_once(template, [buyer.user_id] * 8)

    assert held(template) == 8


def test_many_attempts_with_one_key_make_one_coupon() -> None:
    template, buyer = make_template(per_user_limit=5), make_buyer()
    key = claim_key(buyer.user_id, template)

    outcomes = at_once([lambda: claim(buyer.user_id, template, key=key) for _ in range(10)])

    coupons = {outcome for outcome in outcomes if isinstance(outcome, int)}
    assert len(coupons) == 1
    assert set(told(outcomes)) <= {"int", "RequestInProgress"}
    assert held(template) == claimed_count(template) == 1
    assert claim(buyer.user_id, template, key=key) in coupons


def orders_with_one_coupon(count: int) -> tuple[int, int, list[Any]]:
    """Have so many orders at once name one coupon; returns its owner, its id, and what became of each."""
    buyer, sku = make_buyer(), make_sku(100, price="10.00")
    coupon = give_coupon(buyer.user_id)
    requests = [order_request(buyer, [(sku, 1)], coupons=(str(coupon),)) for _ in range(count)]
    outcomes = at_once([lambda request=request: place(request) for request in requests])
    assert counters(sku) == (100, told(outcomes)["OrderView"])
    return buyer.user_id, coupon, outcomes


@pytest.mark.parametrize("batch", [1, 64])
def test_of_twenty_orders_at_once_that_name_one_coupon_one_has_it(settings: Any, batch: int) -> None:
    settings.ORDER_COMMIT_BATCH = batch

    user_id, coupon, outcomes = orders_with_one_coupon(20)

    assert told(outcomes) == {"OrderView": 1, "CouponNotApplicable": 19}
    [order] = [outcome for outcome in outcomes if isinstance(outcome, OrderView)]
    assert coupon_row(user_id, coupon).order_id == order.id
    refusals = [outcome for outcome in outcomes if isinstance(outcome, CouponNotApplicable)]
    assert {error.field for refusal in refusals for error in refusal.errors} == {"/coupons/0"}


def test_without_the_compare_and_set_several_orders_have_the_coupon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        redeeming.coupon_statements, "redeem_coupons", lambda alias, redemptions, *, now: len(redemptions)
    )

    _, _, outcomes = orders_with_one_coupon(10)

    assert told(outcomes)["OrderView"] > 1
