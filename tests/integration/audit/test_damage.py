"""Each kind of damage, done on purpose, is found; the same data before it is not."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.db import connections
from django.utils import timezone

from apps.inventory.models import Reservation, Stock
from apps.orders.audit import customers, orders, outbox, payments, placement, reservations, stock
from apps.orders.audit.findings import Finding
from apps.orders.models import Order
from apps.orders.services.cancellation import cancel_order
from apps.orders.services.payment import record_payment_outcome
from apps.payments.types import AttemptStatus, PaymentOutcome
from apps.users.models import Customer, Identity
from infra.sharding.ids import slot_of
from infra.sharding.models import Fence
from infra.sharding.month_register import made_tables
from infra.sharding.months import Month
from infra.sharding.places import place_of_order
from tests.factories.orders import make_buyer, make_sku, placed_order

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))

Checking = Callable[[str, datetime], Iterable[Finding]]


@dataclass(frozen=True)
class Subject:
    """An order of two units of one SKU, with what damages it."""

    order_id: int
    user_id: int
    sku: str
    alias: str
    month: Month

    def run(self, sql: str, alias: str = "") -> None:
        """Run a statement with the order's tables and values filled in."""
        names = {
            name: f"{table}_{self.month.suffix}"
            for name, table in (
                ("order", "orders_order"),
                ("line", "orders_line"),
                ("event", "orders_event"),
                ("attempt", "payments_attempt"),
                ("refund", "payments_refund"),
            )
        }
        values = {"id": self.order_id, "slot": slot_of(self.order_id), "user": self.user_id, "sku": self.sku}
        with connections[alias or self.alias].cursor() as cursor:
            cursor.execute(sql.format(**names, **values))


@pytest.fixture(params=[0, 1])
def subject(request: pytest.FixtureRequest) -> Subject:
    buyer = make_buyer(shard=request.param)
    sku = make_sku(10, price="2.50")
    order = placed_order(buyer, [(sku, 2)])
    return Subject(order.id, buyer.user_id, sku, place_of_order(order.id).alias, Month.of_id(order.id))


def found(check: Checking, alias: str, about: object) -> list[Finding]:
    return [finding for finding in check(alias, timezone.now()) if str(about) in finding.subject]


ORDER_DAMAGE: dict[str, tuple[Checking, str]] = {
    "a subtotal that is not the sum of the lines": (
        orders.lines_sum_to_the_subtotal,
        "UPDATE {line} SET line_total = line_total + 1 WHERE slot = {slot} AND order_id = {id}",
    ),
    "a total off its formula": (
        orders.totals_add_up,
        "UPDATE {order} SET total = total + 1 WHERE slot = {slot} AND id = {id}",
    ),
    "a line of another price": (
        orders.totals_add_up,
        "UPDATE {line} SET unit_price = 9 WHERE slot = {slot} AND order_id = {id}",
    ),
    "more refunded units than bought": (
        orders.totals_add_up,
        "UPDATE {line} SET refunded_quantity = 3 WHERE slot = {slot} AND order_id = {id}",
    ),
    "lost lines": (orders.lines_sum_to_the_subtotal, "DELETE FROM {line} WHERE slot = {slot} AND order_id = {id}"),
    "lines of a lost order": (
        orders.lines_sum_to_the_subtotal,
        "DELETE FROM {order} WHERE slot = {slot} AND id = {id}",
    ),
    "events of a lost order": (
        orders.versions_have_no_gaps,
        "DELETE FROM {order} WHERE slot = {slot} AND id = {id}",
    ),
    "a lost event": (
        orders.versions_have_no_gaps,
        "DELETE FROM {event} WHERE slot = {slot} AND order_id = {id}",
    ),
    "a version without an event": (
        orders.versions_have_no_gaps,
        "UPDATE {order} SET version = 2 WHERE slot = {slot} AND id = {id}",
    ),
    "an event of a later version": (
        orders.versions_have_no_gaps,
        "UPDATE {event} SET version = 2 WHERE slot = {slot} AND order_id = {id}",
    ),
    "a lost customer": (
        orders.orders_have_their_customer,
        "DELETE FROM users_customer WHERE slot = {slot} AND user_id = {user}",
    ),
    "an order that never expires": (
        orders.unpaid_orders_expire,
        "UPDATE {order} SET expires_at = '2020-01-01' WHERE slot = {slot} AND id = {id}",
    ),
    "paid without a payment": (
        payments.money_agrees_with_the_order,
        "UPDATE {order} SET payment_status = 'paid', status = 'paid' WHERE slot = {slot} AND id = {id}",
    ),
    "refunded without a refund": (
        payments.money_agrees_with_the_order,
        "UPDATE {order} SET refunded_total = 1 WHERE slot = {slot} AND id = {id}",
    ),
    "captured money that the order does not know": (
        payments.money_agrees_with_the_order,
        "INSERT INTO {attempt} (slot, order_id, n, status, provider, method, amount, currency, captured_amount, "
        "refund_claimed, superseded, unexpected, redirect_url, return_url, created_at, updated_at) "
        "VALUES ({slot}, {id}, 1, 'succeeded', 'sandbox', '', 5, 'GBP', 5, 0, 0, 0, '', '', NOW(), NOW())",
    ),
    "an order whose money nobody holds": (
        payments.holds_agree_with_the_order,
        "UPDATE {order} SET payment_status = 'authorized' WHERE slot = {slot} AND id = {id}",
    ),
    "more units back in stock than bought": (
        orders.totals_add_up,
        "UPDATE {line} SET returned_quantity = 3 WHERE slot = {slot} AND order_id = {id}",
    ),
    "refunding without a refund": (
        payments.refunding_ends,
        "UPDATE {order} SET refunding = 1 WHERE slot = {slot} AND id = {id}",
    ),
    "a row in the wrong slot": (
        placement.month_rows_are_where_their_id_says,
        "UPDATE {order} SET slot = {slot} ^ 1 WHERE slot = {slot} AND id = {id}",
    ),
    "a lost domain event": (
        outbox.orders_have_told_their_version,
        "DELETE FROM outbox_event WHERE aggregate = 'order' AND aggregate_id = {id}",
    ),
    "a domain event of a later version": (
        outbox.orders_have_told_their_version,
        "UPDATE outbox_event SET aggregate_version = 3 WHERE aggregate = 'order' AND aggregate_id = {id}",
    ),
    "a domain event twice": (
        outbox.events_have_no_gaps,
        "INSERT INTO outbox_event (event_id, type, schema_version, aggregate, aggregate_id, aggregate_version, slot, "
        "user_id, order_id, occurred_at, payload, headers) SELECT 'x', type, schema_version, aggregate, aggregate_id, "
        "aggregate_version, slot, user_id, order_id, occurred_at, payload, headers FROM outbox_event "
        "WHERE aggregate = 'order' AND aggregate_id = {id}",
    ),
    "a reservation of an order that is gone": (
        reservations.reservations_agree_with_orders,
        "DELETE FROM {order} WHERE slot = {slot} AND id = {id}",
    ),
    "a reservation of a void order": (
        reservations.reservations_agree_with_orders,
        "UPDATE {order} SET kind = 1, status = 'void' WHERE slot = {slot} AND id = {id}",
    ),
    "a reservation of an order that was cancelled": (
        reservations.reservations_agree_with_orders,
        "UPDATE {order} SET closed_as = 'cancelled', status = 'cancelled' WHERE slot = {slot} AND id = {id}",
    ),
    "a reservation of other lines": (
        reservations.reservations_agree_with_orders,
        "UPDATE {line} SET quantity = 3 WHERE slot = {slot} AND order_id = {id}",
    ),
    "a paid order whose units are only held": (
        reservations.reservations_agree_with_orders,
        "UPDATE {order} SET payment_status = 'paid', status = 'paid' WHERE slot = {slot} AND id = {id}",
    ),
}


@pytest.mark.parametrize("damage", ORDER_DAMAGE)
def test_damage_to_an_order_is_found(subject: Subject, damage: str) -> None:
    check, sql = ORDER_DAMAGE[damage]
    assert found(check, subject.alias, subject.order_id) == []
    subject.run(sql)
    assert len(found(check, subject.alias, subject.order_id)) >= 1


STOCK_DAMAGE: dict[str, tuple[Checking, str]] = {
    "a counter that is not what is held": (
        stock.reserved_is_what_is_held,
        "UPDATE inventory_stock SET reserved = 1 WHERE sku = '{sku}'",
    ),
    "a lost reservation": (
        stock.reserved_is_what_is_held,
        "DELETE FROM inventory_reservation WHERE slot = {slot} AND order_id = {id}",
    ),
    "a reservation of more": (
        stock.reserved_is_what_is_held,
        "UPDATE inventory_reservation SET quantity = 5 WHERE slot = {slot} AND order_id = {id}",
    ),
    "lost stock": (stock.reserved_is_what_is_held, "DELETE FROM inventory_stock WHERE sku = '{sku}'"),
}


@pytest.mark.parametrize("damage", STOCK_DAMAGE)
def test_damage_to_stock_is_found(subject: Subject, damage: str) -> None:
    check, sql = STOCK_DAMAGE[damage]
    assert found(check, "inventory", subject.sku) == []
    subject.run(sql, "inventory")
    assert len(found(check, "inventory", subject.sku)) == 1


def test_oversold_stock_is_found_where_the_server_does_not_refuse_it(subject: Subject) -> None:
    if not connections["inventory"].mysql_is_mariadb:
        pytest.skip("Oracle MySQL has no switch for check constraints")
    assert found(stock.counters_within_bounds, "inventory", subject.sku) == []
    with connections["inventory"].cursor() as cursor:
        cursor.execute("SET SESSION check_constraint_checks = 0")
    try:
        subject.run("UPDATE inventory_stock SET on_hand = 1 WHERE sku = '{sku}'", "inventory")
    finally:
        with connections["inventory"].cursor() as cursor:
            cursor.execute("SET SESSION check_constraint_checks = 1")
    [finding] = found(stock.counters_within_bounds, "inventory", subject.sku)
    assert "on hand 1, reserved 2" in finding.detail


@pytest.mark.parametrize("state", [3, 5])
def test_an_open_order_whose_units_are_not_held_is_found(subject: Subject, state: int) -> None:
    check = reservations.reservations_agree_with_orders
    Reservation.objects.filter(order_id=subject.order_id).update(state=state)
    assert len(found(check, "all", subject.order_id)) == 1
    Reservation.objects.filter(order_id=subject.order_id).delete()
    [finding] = found(check, "all", subject.order_id)
    assert "nothing is reserved" in finding.detail


@pytest.mark.parametrize("is_damaged", [False, True])
def test_slots_that_were_not_read_are_excused_only_as_those_that_were(
    monkeypatch: pytest.MonkeyPatch, is_damaged: bool
) -> None:
    # given two orders in different slots whose units have yet to come back, of which one slot is read
    sku = make_sku(10)
    by_slot = {}
    while len(by_slot) < 2:
        order = placed_order(make_buyer(), [(sku, 1)])
        by_slot[slot_of(order.id)] = order
        cancel_order(user_id=order.user_id, order_id=order.id, reason="", now=timezone.now())
    monkeypatch.setattr(reservations, "MAX_SLOTS_READ", 1)
    if is_damaged:
        orders_read = [order.id for slot, order in by_slot.items() if slot == min(by_slot)]
        Reservation.objects.filter(order_id__in=orders_read).update(quantity=7)
        Order.objects.for_order(orders_read[0]).filter(id=orders_read[0]).update(status="paid")

    findings = list(reservations.reservations_agree_with_orders("all", timezone.now()))

    [further] = [each for each in findings if each.subject == "further slots"]
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    assert further.is_in_flight(now=timezone.now(), recovering_since=long_ago) != is_damaged


def test_orders_of_every_state_pass_the_audit(subject: Subject) -> None:
    """A cancelled order whose stock came back, and one whose stock has yet to."""
    cancel_order(user_id=subject.user_id, order_id=subject.order_id, reason="", now=timezone.now())
    [waiting] = found(reservations.reservations_agree_with_orders, "all", subject.order_id)
    assert waiting.is_in_flight(now=timezone.now(), recovering_since=datetime(2020, 1, 1, tzinfo=UTC))
    assert waiting.mend is not None
    waiting.mend(timezone.now())
    assert found(reservations.reservations_agree_with_orders, "all", subject.order_id) == []
    assert found(stock.reserved_is_what_is_held, "inventory", subject.sku) == []


CUSTOMER_DAMAGE: dict[str, tuple[Checking, str, str]] = {
    "a customer without an identity": (
        customers.customers_agree_with_the_directory,
        "users",
        "DELETE FROM users_identity WHERE user_id = {user}",
    ),
    "a customer whose identity is void": (
        customers.customers_agree_with_the_directory,
        "users",
        "UPDATE users_identity SET state = 'void' WHERE user_id = {user}",
    ),
    "an identity without a customer": (
        customers.customers_agree_with_the_directory,
        "",
        "DELETE FROM users_customer WHERE slot = {slot} AND user_id = {user}",
    ),
    "a registration that never ends": (
        customers.registrations_end,
        "",
        "UPDATE users_customer SET state = 'registering' WHERE slot = {slot} AND user_id = {user}",
    ),
    "a customer in the wrong slot": (
        placement.customers_are_in_their_slot,
        "",
        "UPDATE users_customer SET slot = {slot} ^ 1 WHERE slot = {slot} AND user_id = {user}",
    ),
}


@pytest.mark.parametrize("damage", CUSTOMER_DAMAGE)
def test_damage_to_a_customer_is_found(subject: Subject, damage: str) -> None:
    check, alias, sql = CUSTOMER_DAMAGE[damage]
    assert found(check, subject.alias, subject.user_id) == []
    subject.run(sql, alias)
    assert len(found(check, subject.alias, subject.user_id)) == 1


def test_a_customer_behind_its_events_is_found(subject: Subject) -> None:
    subject.run(
        "INSERT INTO outbox_event (event_id, type, schema_version, aggregate, aggregate_id, aggregate_version, slot, "
        "user_id, occurred_at, payload, headers) VALUES ('y', 'customer.updated', 1, 'customer', {user}, 9, {slot}, "
        "{user}, NOW(), '', '')"
    )
    assert len(found(outbox.customers_have_told_their_version, subject.alias, subject.user_id)) == 1


def pay(subject: Subject) -> None:
    """Give the order an open attempt, with its follow-up."""
    subject.run(
        "INSERT INTO {attempt} (slot, order_id, n, status, provider, method, amount, currency, captured_amount, "
        "refund_claimed, superseded, unexpected, redirect_url, return_url, created_at, updated_at) "
        "VALUES ({slot}, {id}, 1, 'processing', 'sandbox', '', 5, 'GBP', 0, 0, 0, 0, '', '', NOW(), NOW())"
    )
    subject.run(
        "INSERT INTO followups_followup (slot, order_id, kind, n, due_at, attempt_count, version, last_error, "
        "created_at) "
        "VALUES ({slot}, {id}, 'payment_poll', 1, UTC_TIMESTAMP() + INTERVAL 1 HOUR, 0, 1, '', UTC_TIMESTAMP())"
    )


def test_an_open_payment_that_nobody_follows_is_found_and_mended(subject: Subject) -> None:
    pay(subject)
    check = payments.open_payments_are_followed
    assert found(check, subject.alias, subject.order_id) == []
    subject.run("DELETE FROM followups_followup WHERE slot = {slot} AND order_id = {id}")
    [finding] = found(check, subject.alias, subject.order_id)
    assert finding.mend is not None
    finding.mend(timezone.now())
    assert found(check, subject.alias, subject.order_id) == []


def test_a_payment_of_a_lost_order_is_found(subject: Subject) -> None:
    pay(subject)
    assert found(orders.payments_have_their_order, subject.alias, subject.order_id) == []
    subject.run("DELETE FROM {order} WHERE slot = {slot} AND id = {id}")
    assert len(found(orders.payments_have_their_order, subject.alias, subject.order_id)) == 1


def test_a_payment_that_came_is_clean_and_its_money_is_watched(subject: Subject) -> None:
    pay(subject)
    now = timezone.now()
    record_payment_outcome(order_id=subject.order_id, n=1, outcome=PaymentOutcome(AttemptStatus.SUCCEEDED), now=now)
    for check in (payments.money_agrees_with_the_order, payments.refunds_within_capture, orders.versions_have_no_gaps):
        assert found(check, subject.alias, subject.order_id) == []
    subject.run("UPDATE {attempt} SET captured_amount = 4, amount = 4 WHERE slot = {slot} AND order_id = {id}")
    assert len(found(payments.money_agrees_with_the_order, subject.alias, subject.order_id)) == 1
    subject.run("UPDATE {attempt} SET unexpected = 1 WHERE slot = {slot} AND order_id = {id}")
    assert len(found(payments.refunds_within_capture, subject.alias, subject.order_id)) == 1


def test_overdue_follow_ups_and_unsent_events_are_found_by_their_age(subject: Subject) -> None:
    pay(subject)
    subject.run("UPDATE followups_followup SET due_at = '2020-01-01' WHERE slot = {slot} AND order_id = {id}")
    subject.run("UPDATE outbox_event SET occurred_at = '2020-01-01' WHERE aggregate_id = {id}")
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    for check, about in ((outbox.follow_ups_are_done_in_time, "payment_poll"), (outbox.events_leave_in_time, "unsent")):
        [finding] = found(check, subject.alias, about)
        assert finding.since == long_ago
        assert not finding.is_in_flight(now=timezone.now(), recovering_since=long_ago)
        assert finding.is_in_flight(now=long_ago + timedelta(seconds=59), recovering_since=long_ago)


def test_rows_of_a_slot_of_another_shard_are_found(subject: Subject) -> None:
    foreign = (slot_of(subject.order_id) + 512) % 1024
    subject.run(f"UPDATE users_customer SET slot = {foreign} WHERE slot = {{slot}} AND user_id = {{user}}")
    assert len(found(placement.slots_are_on_their_shard, subject.alias, f"slot {foreign} in users_customer")) == 1


def test_fences_that_contradict_the_map_are_found(subject: Subject) -> None:
    check, slot = placement.fences_agree_with_the_map, slot_of(subject.order_id)
    assert found(check, subject.alias, f"slot {slot}") == []
    Fence.objects.using(subject.alias).filter(slot=slot).update(epoch=7)
    assert len(found(check, subject.alias, f"slot {slot}")) == 1
    other = "shard_1" if subject.alias == "shard_0" else "shard_0"
    Fence.objects.using(other).create(slot=slot, epoch=7, writable=True, updated_at=timezone.now())
    assert len(found(check, other, f"slot {slot}")) == 1


def test_partitions_that_are_too_large_are_found(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    table = f"orders_order_{subject.month.suffix}"
    with connections[subject.alias].cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM information_schema.partitions WHERE table_name = %s", [table])
        assert cursor.fetchone()[0] >= 1
    assert found(placement.partitions_are_small, subject.alias, table) == []
    monkeypatch.setattr(placement, "PARTITION_ALERT_ROWS", -1)
    monkeypatch.setattr(placement, "fetch", lambda alias, sql, parameters=(): [(table, "p0")] if parameters else [(0,)])
    assert len(found(placement.partitions_are_small, subject.alias, table)) == 1


def test_a_table_that_is_not_as_registered_is_found(subject: Subject) -> None:
    check = placement.partitions_are_as_registered
    [made] = [made for made in made_tables(subject.alias) if made.name == f"orders_order_{subject.month.suffix}"]
    assert found(check, subject.alias, made.name) == []
    with connections[subject.alias].cursor() as cursor:
        cursor.execute(
            "UPDATE sharding_month SET partitions = 64 WHERE logical_table = 'orders_order' AND month = %s",
            [subject.month.number],
        )
        cursor.execute(
            "UPDATE sharding_month SET month = 203001 WHERE logical_table = 'orders_line' AND month = %s",
            [subject.month.number],
        )
    assert len(found(check, subject.alias, made.name)) == 1
    assert len(found(check, subject.alias, "orders_line_203001")) == 1


def test_a_month_that_is_missing_or_behind_is_found(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    check = placement.months_are_made_ahead
    assert found(check, subject.alias, "orders_order") == []
    monkeypatch.setattr(Order, "schema_changes", (object(),))
    assert len(found(check, subject.alias, f"orders_order_{subject.month.suffix}")) == 1
    monkeypatch.undo()
    with connections[subject.alias].cursor() as cursor:
        cursor.execute(
            "DELETE FROM sharding_month WHERE logical_table = 'orders_order' AND month = %s", [subject.month.number]
        )
    assert len(found(check, subject.alias, f"orders_order_{subject.month.suffix}")) == 1


def test_counters_are_recounted(subject: Subject) -> None:
    subject.run("UPDATE inventory_stock SET reserved = 7 WHERE sku = '{sku}'", "inventory")
    [finding] = found(stock.reserved_is_what_is_held, "inventory", subject.sku)
    assert finding.mend is not None
    finding.mend(timezone.now())
    assert Stock.objects.get(sku=subject.sku).reserved == 2
    assert found(stock.reserved_is_what_is_held, "inventory", subject.sku) == []


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE {order} SET kind = 1, status = 'void' WHERE slot = {slot} AND id = {id}",
        "UPDATE {order} SET closed_as = 'expired', status = 'expired' WHERE slot = {slot} AND id = {id}",
        "UPDATE {order} SET payment_status = 'paid', status = 'paid' WHERE slot = {slot} AND id = {id}",
    ],
)
def test_reservations_are_brought_in_line_with_their_order(subject: Subject, damage: str) -> None:
    check = reservations.reservations_agree_with_orders
    subject.run(damage)
    [finding] = found(check, "all", subject.order_id)
    assert finding.mend is not None
    finding.mend(timezone.now())
    assert found(check, "all", subject.order_id) == []
    assert found(stock.reserved_is_what_is_held, "inventory", subject.sku) == []


def test_a_hold_without_an_order_is_released_behind_a_tombstone(subject: Subject) -> None:
    check = reservations.reservations_agree_with_orders
    for table in ("{order}", "{line}", "{event}"):
        key = "id" if table == "{order}" else "order_id"
        subject.run(f"DELETE FROM {table} WHERE slot = {{slot}} AND {key} = {{id}}")
    Reservation.objects.filter(order_id=subject.order_id).update(updated_at=timezone.now() - timedelta(minutes=5))
    [finding] = found(check, "all", subject.order_id)
    assert finding.mend is not None
    finding.mend(timezone.now())
    assert found(check, "all", subject.order_id) == []
    assert Order.objects.for_order(subject.order_id).get(id=subject.order_id).status == "void"


def test_an_unfinished_registration_is_settled(subject: Subject) -> None:
    rows = Customer.objects.for_user(subject.user_id).filter(user_id=subject.user_id)
    rows.update(state="registering", registered_at=timezone.now() - timedelta(hours=1))
    [finding] = found(customers.registrations_end, subject.alias, subject.user_id)
    assert finding.mend is not None
    finding.mend(timezone.now())
    assert rows.get().state == "live"
    assert Identity.objects.get(user_id=subject.user_id).state == "live"
