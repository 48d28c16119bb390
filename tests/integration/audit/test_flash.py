"""Each kind of damage to a flash sale, done on purpose, is found; the same data before it, in every state, is not."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.db import connections
from django.utils import timezone

from apps.orders.audit import flash, reservations
from apps.orders.audit.findings import Finding
from apps.orders.selectors import get_placed_order
from apps.orders.services import flash_placement
from apps.orders.services.cancellation import cancel_order
from apps.orders.services.flash_sales import end_sale
from apps.orders.services.stock import sync_stock_of
from apps.promotions import services as promotions
from apps.promotions.types import Sale, Ticket, TicketEnd
from infra.sharding.ids import slot_of
from infra.sharding.months import Month
from infra.sharding.places import place_of_order
from tests.factories.orders import Buyer, make_buyer
from tests.factories.promotions import buy, make_sale, pay, sku_of

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))

Checking = Callable[[str, datetime], Iterable[Finding]]
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Subject:
    """An order of two units in a sale of ten, with what damages them."""

    sale: Sale
    buyer: Buyer
    order_id: int
    alias: str

    def run(self, sql: str, alias: str = "") -> None:
        """Run a statement with the order's tables and values filled in."""
        suffix = Month.of_id(self.order_id).suffix
        values = {
            "order": f"orders_order_{suffix}",
            "line": f"orders_line_{suffix}",
            "id": self.order_id,
            "slot": slot_of(self.order_id),
            "sale": self.sale.id,
            "sku": sku_of(self.sale),
            "user": self.buyer.user_id,
        }
        with connections[alias or self.alias].cursor() as cursor:
            cursor.execute(sql.format(**values))

    def findings(self, check: Checking, alias: str = "") -> list[Finding]:
        """Return what the check finds about this order, sale, SKU or buyer."""
        about = (str(self.order_id), str(self.sale.id), sku_of(self.sale), str(self.buyer.user_id))
        return [
            finding
            for finding in check(alias or self.alias, timezone.now())
            if any(each in f"{finding.subject} {finding.detail}" for each in about)
        ]


@pytest.fixture(params=[0, 1])
def subject(request: pytest.FixtureRequest) -> Subject:
    flash_placement.forget_sold_out()
    sale, buyer = make_sale(quota=10, per_user_limit=3, on_hand=20), make_buyer(shard=request.param)
    order = buy(sale, buyer, quantity=2)
    return Subject(sale, buyer, order.id, place_of_order(order.id).alias)


ALL: list[tuple[Checking, str]] = [
    (flash.allotments_within_bounds, ""),
    (flash.quotas_are_what_was_transferred, ""),
    (flash.sold_is_what_is_claimed, ""),
    (flash.purchases_are_what_is_claimed, ""),
    (flash.claims_agree_with_orders, ""),
    (flash.transfers_end, ""),
    (flash.transfers_end, "inventory"),
    (flash.transfers_have_their_receipts, "all"),
    (flash.allotted_is_what_the_shards_have, "all"),
    (flash.sales_end_in_time, "all"),
    (reservations.reservations_agree_with_orders, "all"),
]


def all_findings(subject: Subject) -> list[Finding]:
    return [finding for check, alias in ALL for finding in subject.findings(check, alias)]


DAMAGE: dict[str, tuple[Checking, str]] = {
    "more sold than claimed": (
        flash.sold_is_what_is_claimed,
        "UPDATE promotions_allotment SET sold = sold + 1 WHERE sale_id = {sale}",
    ),
    "more settled than is": (
        flash.sold_is_what_is_claimed,
        "UPDATE promotions_allotment SET settled = 1 WHERE sale_id = {sale}",
    ),
    "a lost claim": (
        flash.sold_is_what_is_claimed,
        "DELETE FROM promotions_claim WHERE slot = {slot} AND order_id = {id}",
    ),
    "a quota that grew by itself": (
        flash.quotas_are_what_was_transferred,
        "UPDATE promotions_allotment SET quota = quota + 1 WHERE sale_id = {sale}",
    ),
    "a receipt of more": (
        flash.quotas_are_what_was_transferred,
        "UPDATE promotions_receipt SET quantity = quantity + 1 WHERE sale_id = {sale}",
    ),
    "a closed allotment that sells": (
        flash.allotments_within_bounds,
        "UPDATE promotions_allotment SET closed = 1 WHERE sale_id = {sale}",
    ),
    "purchases that were forgotten": (
        flash.purchases_are_what_is_claimed,
        "UPDATE promotions_purchase SET bought = 0 WHERE sale_id = {sale}",
    ),
    "more bought than the limit": (
        flash.purchases_are_what_is_claimed,
        "UPDATE promotions_purchase SET bought = 4 WHERE sale_id = {sale}",
    ),
    "a claim of a lost order": (
        flash.claims_agree_with_orders,
        "DELETE FROM {order} WHERE slot = {slot} AND id = {id}",
    ),
    "a claim of other units than the order's": (
        flash.claims_agree_with_orders,
        "UPDATE {line} SET quantity = 1 WHERE slot = {slot} AND order_id = {id}",
    ),
    "units given back of an order that stands": (
        flash.claims_agree_with_orders,
        "UPDATE promotions_claim SET state = 4 WHERE slot = {slot} AND order_id = {id}",
    ),
    "settled units of an unpaid order": (
        flash.claims_agree_with_orders,
        "UPDATE promotions_claim SET state = 3 WHERE slot = {slot} AND order_id = {id}",
    ),
    "units held of an order that was cancelled": (
        flash.claims_agree_with_orders,
        "UPDATE {order} SET closed_as = 'cancelled', status = 'cancelled' WHERE slot = {slot} AND id = {id}",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_on_a_shard_is_found(subject: Subject, damage: str) -> None:
    check, sql = DAMAGE[damage]
    assert all_findings(subject) == []
    subject.run(sql)
    assert len(subject.findings(check)) >= 1


ACROSS: dict[str, tuple[Checking, str, str]] = {
    "units allotted of nothing": (
        flash.allotted_is_what_the_shards_have,
        "inventory",
        "UPDATE inventory_stock SET allotted = allotted + 1 WHERE sku = '{sku}'",
    ),
    "allotted units that the stock forgot": (
        flash.allotted_is_what_the_shards_have,
        "inventory",
        "UPDATE inventory_stock SET allotted = 0 WHERE sku = '{sku}'",
    ),
    "a lost transfer": (
        flash.transfers_have_their_receipts,
        "inventory",
        "DELETE FROM promotions_transfer WHERE sale_id = {sale}",
    ),
    "a transfer of more than came": (
        flash.transfers_have_their_receipts,
        "inventory",
        "UPDATE promotions_transfer SET quantity = 9 WHERE sale_id = {sale}",
    ),
    "a lost receipt": (
        flash.transfers_have_their_receipts,
        "",
        "DELETE FROM promotions_receipt WHERE sale_id = {sale}",
    ),
    "a transfer that never ends": (
        flash.transfers_end,
        "inventory",
        "UPDATE promotions_transfer SET state = 1, created_at = '2020-01-01' WHERE sale_id = {sale}",
    ),
    "a sale that never ends": (
        flash.sales_end_in_time,
        "promotions",
        "UPDATE promotions_sale SET starts_at = '2019-01-01', ends_at = '2020-01-01' WHERE id = {sale}",
    ),
    "a closed sale that sells on": (
        flash.sales_end_in_time,
        "promotions",
        "UPDATE promotions_sale SET state = 'ended', closed_at = UTC_TIMESTAMP() WHERE id = {sale}",
    ),
    "purchases of an item that no sale has": (
        flash.purchases_are_what_is_claimed,
        "promotions",
        "DELETE FROM promotions_item WHERE sale_id = {sale}",
    ),
}


@pytest.mark.parametrize("damage", ACROSS)
def test_damage_between_the_databases_is_found(subject: Subject, damage: str) -> None:
    check, where, sql = ACROSS[damage]
    asked = "inventory" if check is flash.transfers_end else subject.alias
    subject.run(sql, where)
    findings = subject.findings(check, asked)
    assert len(findings) >= 1
    assert not any(each.is_in_flight(now=timezone.now(), recovering_since=LONG_AGO) for each in findings)


def test_more_sold_than_the_quota_is_found_where_the_server_does_not_refuse_it(subject: Subject) -> None:
    if not connections[subject.alias].mysql_is_mariadb:
        pytest.skip("Oracle MySQL has no switch for check constraints")
    with connections[subject.alias].cursor() as cursor:
        cursor.execute("SET SESSION check_constraint_checks = 0")
    try:
        subject.run("UPDATE promotions_allotment SET sold = quota + 1 WHERE sale_id = {sale}")
    finally:
        with connections[subject.alias].cursor() as cursor:
            cursor.execute("SET SESSION check_constraint_checks = 1")
    [finding] = subject.findings(flash.allotments_within_bounds)
    assert "sold 6 of 5" in finding.detail


def test_a_lost_deduction_is_found(subject: Subject) -> None:
    pay_and_sync(subject)
    assert all_findings(subject) == []
    subject.run("DELETE FROM inventory_reservation WHERE slot = {slot} AND order_id = {id}", "inventory")
    [finding] = subject.findings(reservations.reservations_agree_with_orders, "all")
    assert "nothing is reserved or deducted" in finding.detail


def test_a_ticket_without_its_order_is_found(subject: Subject) -> None:
    ticket = Ticket(subject.sale.id, subject.buyer.user_id, b"\1" * 32, 0)
    promotions.end_each(subject.alias, [TicketEnd(ticket, subject.order_id, "")], now=timezone.now())
    assert subject.findings(flash.tickets_agree_with_orders) == []
    subject.run("DELETE FROM promotions_claim WHERE slot = {slot} AND order_id = {id}")
    assert len(subject.findings(flash.tickets_agree_with_orders)) == 1


def test_a_ticket_that_ended_as_nothing_is_found(subject: Subject) -> None:
    ticket = Ticket(subject.sale.id, subject.buyer.user_id, b"\1" * 32, 0)
    promotions.end_each(subject.alias, [TicketEnd(ticket, None, "sold_out")], now=timezone.now())
    assert subject.findings(flash.tickets_agree_with_orders) == []
    subject.run("UPDATE promotions_ticket SET code = '' WHERE user_id = {user}")
    assert len(subject.findings(flash.tickets_agree_with_orders)) == 1


# -- what is not damage -----------------------------------------------------------------------------------------------


def order_of(subject: Subject):
    return get_placed_order(order_id=subject.order_id)


def pay_and_sync(subject: Subject) -> None:
    pay(order_of(subject))
    sync_stock_of([subject.order_id], now=timezone.now())


def cancel(subject: Subject) -> None:
    cancel_order(user_id=subject.buyer.user_id, order_id=subject.order_id, reason="", now=timezone.now())


def cancel_and_sync(subject: Subject) -> None:
    cancel(subject)
    sync_stock_of([subject.order_id], now=timezone.now())


def end(subject: Subject) -> None:
    assert end_sale(subject.sale.id, now=timezone.now())


@pytest.mark.parametrize(
    "life",
    [
        [],
        [pay_and_sync],
        [cancel_and_sync],
        [pay_and_sync, cancel_and_sync],
        [end],
        [end, pay_and_sync],
        [end, cancel_and_sync],
        [pay_and_sync, end, cancel_and_sync],
    ],
    ids=lambda life: " then ".join(step.__name__ for step in life) or "bought",
)
def test_an_order_in_every_state_passes_the_audit(subject: Subject, life: list[Callable[[Subject], None]]) -> None:
    for step in life:
        step(subject)
        assert all_findings(subject) == []


@pytest.mark.parametrize("change", [cancel, lambda subject: pay(order_of(subject))], ids=["cancelled", "paid"])
def test_units_that_have_yet_to_follow_their_order_are_in_flight_and_mended(
    subject: Subject, change: Callable[[Subject], None]
) -> None:
    change(subject)
    [waiting] = all_findings(subject)
    assert waiting.is_in_flight(now=timezone.now(), recovering_since=LONG_AGO)
    assert not waiting.is_in_flight(now=timezone.now() + timedelta(seconds=11), recovering_since=LONG_AGO)
    assert waiting.mend is not None
    waiting.mend(timezone.now())
    assert all_findings(subject) == []


def test_units_on_their_way_are_in_flight_and_mended(subject: Subject) -> None:
    other = "shard_1" if subject.alias == "shard_0" else "shard_0"
    item = subject.sale.id, sku_of(subject.sale)
    assert promotions.debit_allotment(subject.alias, item, 2, creditor=other, now=timezone.now())
    [waiting] = all_findings(subject)
    assert waiting.is_in_flight(now=timezone.now(), recovering_since=LONG_AGO)
    assert waiting.mend is not None
    waiting.mend(timezone.now())
    assert all_findings(subject) == []
