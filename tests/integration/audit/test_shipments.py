"""Damage to shipments and returns, done on purpose, is found, and mended where it can be."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from django.conf import settings
from django.db import connections
from django.utils import timezone

from apps.inventory.models import Restocking
from apps.orders.audit import shipments
from apps.orders.audit.registry import CHECKS
from apps.orders.services.returns import approve_return, receive_return, request_return, restock_due_returns
from apps.orders.services.stock import sync_due_stock
from infra.sharding.ids import slot_of
from infra.sharding.months import Month
from infra.sharding.places import place_of_order
from tests.factories.inventory import counters
from tests.factories.shipping import BOB, paid_order, prepare, reload, shipped, statuses

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))

TABLES = {
    "order": "orders_order",
    "shipment": "orders_shipment",
    "shipment_line": "orders_shipment_line",
    "track": "orders_track",
    "back": "orders_return",
    "back_line": "orders_return_line",
    "refund": "payments_refund",
}


@dataclass(frozen=True)
class Subject:
    """An order of three units: two sent and one being packed, one of the two received back and in stock."""

    order: object
    sku: str

    @property
    def alias(self) -> str:
        return place_of_order(self.order.id).alias

    def run(self, sql: str) -> None:
        month = Month.of_id(self.order.id)
        names = {name: f"{table}_{month.suffix}" for name, table in TABLES.items()}
        with connections[self.alias].cursor() as cursor:
            cursor.execute(sql.format(**names, id=self.order.id, slot=slot_of(self.order.id)))

    def found(self, check: Callable) -> list:
        return [finding for finding in check(self.alias, timezone.now()) if str(self.order.id) in finding.subject]


@pytest.fixture(params=[0, 1])
def subject(request: pytest.FixtureRequest) -> Subject:
    order = paid_order((3,), shard=request.param)
    sku = order.items[0].sku
    sync_due_stock(now=timezone.now(), limit=1000)
    shipped(order, items={sku: 2})
    request_return(user_id=order.user_id, order_id=order.id, items=[(sku, 1)], reason="", now=timezone.now())
    decided = {"order_id": order.id, "n": 1, "note": "", "actor": BOB, "now": timezone.now()}
    approve_return(**decided)
    receive_return(**decided, received={sku: 1}, restocked={sku: 1})
    restock_due_returns(now=timezone.now(), limit=1000)
    prepare(order, carrier="sandbox")
    return Subject(order, sku)


WHERE = "WHERE slot = {slot} AND order_id = {id}"
DAMAGE: dict[str, tuple[Callable, str]] = {
    "more shipped than bought": (
        shipments.shipped_is_within_what_was_bought,
        f"UPDATE {{shipment_line}} SET quantity = 4 {WHERE} AND n = 1",
    ),
    "more back than was gone": (
        shipments.shipped_is_within_what_was_bought,
        f"UPDATE {{back_line}} SET quantity = 3, received_quantity = 3 {WHERE}",
    ),
    "another SKU in the box": (
        shipments.shipped_is_within_what_was_bought,
        f"UPDATE {{shipment_line}} SET sku = 'X' {WHERE} AND n = 1",
    ),
    "a line that was never bought": (
        shipments.shipped_is_within_what_was_bought,
        f"UPDATE {{shipment_line}} SET line = 9 {WHERE} AND n = 1",
    ),
    "a lost order": (shipments.shipments_have_their_order, "DELETE FROM {order} WHERE slot = {slot} AND id = {id}"),
    "a lost shipment": (shipments.shipments_have_their_order, f"DELETE FROM {{shipment}} {WHERE} AND n = 1"),
    "a lost return": (shipments.shipments_have_their_order, f"DELETE FROM {{back}} {WHERE}"),
    "shipped before it was": (
        shipments.fulfillment_agrees_with_shipments,
        "UPDATE {order} SET fulfillment_status = 'none' WHERE slot = {slot} AND id = {id}",
    ),
    "delivered before it was": (
        shipments.fulfillment_agrees_with_shipments,
        f"UPDATE {{shipment}} SET status = 'delivered' {WHERE}",
    ),
    "a forgotten booking": (
        shipments.bookings_are_followed,
        f"DELETE FROM followups_followup {WHERE} AND kind = 'shipment_booking'",
    ),
    "a lost refund": (shipments.returns_are_refunded_and_restocked, f"DELETE FROM {{refund}} {WHERE}"),
    "units that did not come back into stock": (
        shipments.returns_are_refunded_and_restocked,
        f"UPDATE {{back_line}} SET quantity = 2, received_quantity = 2, restocked_quantity = 2 {WHERE}",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found(subject: Subject, damage: str) -> None:
    check, sql = DAMAGE[damage]
    assert check in {known.find for known in CHECKS}
    assert subject.found(check) == []
    subject.run(sql)
    assert subject.found(check)


def test_a_forgotten_booking_is_owed_again(subject: Subject) -> None:
    subject.run(f"DELETE FROM followups_followup {WHERE} AND kind = 'shipment_booking'")
    [finding] = subject.found(shipments.bookings_are_followed)
    finding.mend(timezone.now())
    assert subject.found(shipments.bookings_are_followed) == []


def test_units_that_were_forgotten_come_back_by_mending(subject: Subject) -> None:
    Restocking.objects.filter(order_id=subject.order.id).delete()
    before = counters(subject.sku)
    [finding] = subject.found(shipments.returns_are_refunded_and_restocked)
    finding.mend(timezone.now())
    assert subject.found(shipments.returns_are_refunded_and_restocked) == []
    restock_due_returns(now=timezone.now(), limit=1000)
    assert counters(subject.sku) == (before[0] + 1, before[1])


def test_an_order_that_fell_behind_its_shipments_is_brought_on(subject: Subject) -> None:
    subject.run(f"UPDATE {{shipment}} SET status = 'delivered' {WHERE}")
    assert statuses(subject.order) == ("fulfilling", "partial")
    [finding] = subject.found(shipments.fulfillment_agrees_with_shipments)
    version = reload(subject.order).version
    finding.mend(timezone.now())
    finding.mend(timezone.now())
    assert statuses(subject.order) == ("completed", "delivered")
    assert reload(subject.order).version == version + 1
