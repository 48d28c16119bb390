"""Each kind of damage to coupons, done on purpose, is found; the same data before it, in every state, is not."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.db import connections
from django.utils import timezone

from apps.orders.audit import coupons
from apps.orders.audit.findings import Finding
from apps.orders.services.cancellation import cancel_order
from apps.promotions.selectors import forget_cached_templates
from infra.sharding.ids import slot_of
from infra.sharding.months import Month
from infra.sharding.places import place_of_order
from tests.factories.coupons import claim, make_template
from tests.factories.orders import make_buyer, make_sku, placed_order

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))

Checking = Callable[[str, datetime], Iterable[Finding]]
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Subject:
    """An order that has one of its buyer's two coupons, with what damages it."""

    order_id: int
    user_id: int
    template_id: int
    used_id: int
    held_id: int
    alias: str

    def run(self, sql: str, alias: str = "") -> None:
        """Run a statement with the order's tables and values filled in."""
        suffix = Month.of_id(self.order_id).suffix
        values = {
            "order": f"orders_order_{suffix}",
            "line": f"orders_line_{suffix}",
            "id": self.order_id,
            "slot": slot_of(self.order_id),
            "template": self.template_id,
            "used": self.used_id,
            "held": self.held_id,
        }
        with connections[alias or self.alias].cursor() as cursor:
            cursor.execute(sql.format(**values))

    def findings(self, check: Checking) -> list[Finding]:
        """Return what the check finds about this order, these coupons or their template."""
        alias = {coupons.counters_are_what_is_claimed: "promotions", coupons.claims_end: "promotions"}.get(check)
        about = tuple(map(str, (self.order_id, self.template_id, self.used_id, self.held_id)))
        return [
            finding
            for finding in check(alias or self.alias, timezone.now())
            if any(each in finding.subject for each in about)
        ]


@pytest.fixture(params=[0, 1])
def subject(request: pytest.FixtureRequest) -> Subject:
    forget_cached_templates()
    buyer, template = make_buyer(shard=request.param), make_template(total_limit=5, per_user_limit=2, amount="3.01")
    used, held = (claim(buyer.user_id, template) for _ in range(2))
    items = [(make_sku(10, price="5.00"), 1), (make_sku(10, price="5.00"), 1)]
    order = placed_order(buyer, items, coupons=(str(used),))
    return Subject(order.id, buyer.user_id, template.id, used, held, place_of_order(order.id).alias)


ALL: list[Checking] = [
    coupons.counters_are_what_is_claimed,
    coupons.claims_end,
    coupons.coupons_are_what_is_claimed,
    coupons.coupons_agree_with_orders,
    coupons.line_shares_sum_to_the_order,
]


def all_findings(subject: Subject) -> list[Finding]:
    return [finding for check in ALL for finding in subject.findings(check)]


def test_sound_coupons_are_not_found_in_any_state(subject: Subject) -> None:
    assert all_findings(subject) == []
    cancel_order(user_id=subject.user_id, order_id=subject.order_id, reason="", now=timezone.now())
    assert all_findings(subject) == []


DAMAGE: dict[str, tuple[Checking, str, str]] = {
    "a counter that lost a claim": (
        coupons.counters_are_what_is_claimed,
        "promotions",
        "UPDATE promotions_coupon_template SET claimed_count = 1 WHERE id = {template}",
    ),
    "a lost claim": (
        coupons.coupons_are_what_is_claimed,
        "promotions",
        "DELETE FROM promotions_coupon_claim WHERE id = {held}",
    ),
    "a claim for another user": (
        coupons.coupons_are_what_is_claimed,
        "promotions",
        "UPDATE promotions_coupon_claim SET user_id = 1 WHERE id = {held}",
    ),
    "a claim that never ends": (
        coupons.claims_end,
        "promotions",
        "UPDATE promotions_coupon_claim SET state = 1, deadline_at = '2020-01-01' WHERE id = {held}",
    ),
    "a lost coupon": (
        coupons.coupons_are_what_is_claimed,
        "",
        "DELETE FROM promotions_coupon WHERE id = {held}",
    ),
    "a coupon that its order has lost": (
        coupons.coupons_agree_with_orders,
        "",
        "UPDATE promotions_coupon SET state = 1, order_id = NULL WHERE id = {used}",
    ),
    "a coupon that no order names": (
        coupons.coupons_agree_with_orders,
        "",
        "UPDATE promotions_coupon SET state = 2, order_id = {id} WHERE id = {held}",
    ),
    "a coupon of an order that is not there": (
        coupons.coupons_agree_with_orders,
        "",
        "UPDATE promotions_coupon SET state = 2, order_id = {id} + 1 WHERE id = {held}",
    ),
    "a coupon that did not come back": (
        coupons.coupons_agree_with_orders,
        "",
        "UPDATE {order} SET status = 'cancelled' WHERE slot = {slot} AND id = {id}",
    ),
    "a discount of more than the coupons": (
        coupons.coupons_agree_with_orders,
        "",
        "UPDATE {order} SET discount = discount + 1, total = total - 1 WHERE slot = {slot} AND id = {id}",
    ),
    "a discount without a coupon": (
        coupons.coupons_agree_with_orders,
        "",
        "UPDATE {order} SET coupons = '' WHERE slot = {slot} AND id = {id}",
    ),
    "a line's share that grew": (
        coupons.line_shares_sum_to_the_order,
        "",
        "UPDATE {line} SET discount = discount + 1 WHERE slot = {slot} AND order_id = {id} AND line = 1",
    ),
    "a line that gives more than it costs": (
        coupons.line_shares_sum_to_the_order,
        "",
        "UPDATE {line} SET discount = 9 WHERE slot = {slot} AND order_id = {id} AND line = 1",
    ),
    "shares of points that the order does not know": (
        coupons.line_shares_sum_to_the_order,
        "",
        "UPDATE {line} SET points_value = 1 WHERE slot = {slot} AND order_id = {id} AND line = 2",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found(subject: Subject, damage: str) -> None:
    check, where, sql = DAMAGE[damage]

    subject.run(sql, where)

    findings = subject.findings(check)
    assert len(findings) >= 1
    later = timezone.now() + timedelta(minutes=2)
    assert not any(each.is_in_flight(now=later, recovering_since=LONG_AGO) for each in findings)
