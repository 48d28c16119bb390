"""Cancelling, expiry, the stock that follows, and the one way in which orders change."""

import threading
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import OperationalError, connections
from django.utils import timezone

from apps.inventory.selectors import holds_of
from apps.orders.domain import ForbiddenTransition, PaymentStatus
from apps.orders.errors import OrderChanged, OrderNotCancellable, OrderNotFound
from apps.orders.locks import lock_order
from apps.orders.selectors import find_order, get_order
from apps.orders.services import expiry, stock
from apps.orders.services.cancellation import cancel_order
from apps.orders.services.expiry import ExpirySweep, expire_orders
from apps.orders.services.payment import record_payment_outcome
from apps.orders.services.stock import owe_stock_change, sync_due_stock, sync_stock_of
from apps.orders.services.transitions import advance, advance_all
from apps.payments.errors import ProviderUnavailable
from apps.payments.selectors import attempts_of, refunds_of
from apps.payments.services import create_attempt
from apps.payments.types import AttemptStatus, PaymentOutcome
from infra.followups.services import due
from infra.sharding.ids import slot_of
from infra.sharding.named_lock import named_lock
from infra.sharding.places import place_of_order, shard_atomic
from tests.factories.inventory import counters
from tests.factories.orders import (
    event_versions,
    expire_at,
    make_buyer,
    make_sku,
    outbox_of,
    placed_order,
)

pytestmark = pytest.mark.usefixtures("committed")


def cancel(order, reason=""):
    return cancel_order(user_id=order.user_id, order_id=order.id, reason=reason, now=timezone.now())


def start_attempt(order):
    """Write an open attempt to pay, as the start of a payment does."""
    place, now = place_of_order(order.id), timezone.now()
    with place.atomic():
        row = lock_order(place, order.id)
        advance(place, row, changes={}, kind="payment_started", actor="shopper", detail="", now=now)
        return create_attempt(
            place,
            order_id=order.id,
            amount=order.total,
            currency=order.currency,
            provider="sandbox",
            method="",
            return_url="",
            expires_at=order.expires_at,
            now=now,
        )


def pay(order):
    attempt = start_attempt(order)
    outcome = PaymentOutcome(AttemptStatus.SUCCEEDED)
    record_payment_outcome(order_id=order.id, n=attempt.n, outcome=outcome, now=timezone.now())
    return get_order(user_id=order.user_id, order_id=order.id)


def sync(order):
    sync_stock_of([order.id], now=timezone.now())


def owed(order):
    """Tell whether the order's stock is owed a move."""
    later = timezone.now() + timedelta(seconds=1)
    follow_ups = due(place_of_order(order.id).alias, kind="stock", now=later, limit=1000)
    return order.id in [item.order_id for item in follow_ups]


@pytest.mark.parametrize("shard", [0, 1])
def test_an_unpaid_order_is_cancelled_and_its_stock_comes_back(shard):
    sku = make_sku(5)
    order = placed_order(make_buyer(shard=shard), [(sku, 2)])

    cancelled = cancel(order, "changed my mind")

    assert (cancelled.status, cancelled.cancel_reason, cancelled.version) == ("cancelled", "changed my mind", 2)
    assert get_order(user_id=order.user_id, order_id=order.id) == cancelled
    assert outbox_of(order.id) == [(1, "order.placed"), (2, "order.cancelled")]
    sync_due_stock(now=timezone.now())
    assert counters(sku) == (5, 0)
    assert not owed(order)


def test_cancelling_again_changes_nothing():
    order = placed_order()
    first = cancel(order, "one")

    assert cancel(order, "two") == first
    assert event_versions(order.id) == [(1, "placed"), (2, "cancelled")]


def test_cancelling_closes_the_open_attempt():
    order = placed_order()
    start_attempt(order)

    cancel(order)

    assert [attempt.status for attempt in attempts_of(order.id)] == ["cancelled"]


def test_a_paid_order_that_is_cancelled_is_refunded_and_restocked():
    sku = make_sku(5)
    order = pay(placed_order(items=[(sku, 2)]))
    sync(order)
    assert counters(sku) == (3, 0)

    cancelled = cancel(order)

    assert (cancelled.status, cancelled.payment_status) == ("refunding", "paid")
    assert [(refund.amount, refund.unexpected) for refund in refunds_of(order.id)] == [(order.total, False)]
    assert cancel(order) == cancelled
    assert len(refunds_of(order.id)) == 1
    sync_due_stock(now=timezone.now())
    assert counters(sku) == (5, 0)


def test_from_fulfilling_on_an_order_cannot_be_cancelled():
    order = pay(placed_order())
    change(order, {"fulfillment_status": "partial"}, "fulfilling")

    with pytest.raises(OrderNotCancellable):
        cancel(order)


def change(order, changes, kind):
    place = place_of_order(order.id)
    with place.atomic():
        row = lock_order(place, order.id)
        return advance(place, row, changes=changes, kind=kind, actor="test", detail="", now=timezone.now())


def test_an_expired_order_cannot_be_cancelled_and_a_strangers_is_not_found():
    order = placed_order()
    change(order, {"closed_as": "expired"}, "expired")

    with pytest.raises(OrderNotCancellable):
        cancel(order)
    with pytest.raises(OrderNotFound):
        cancel_order(user_id=make_buyer().user_id, order_id=order.id, reason="", now=timezone.now())
    with pytest.raises(OrderNotFound):
        cancel_order(user_id=order.user_id + 1, order_id=order.id, reason="", now=timezone.now())


def test_a_change_from_an_older_version_is_refused_and_writes_nothing():
    order = placed_order()
    place, stale = place_of_order(order.id), find_order(order.id)
    cancel(order)

    with pytest.raises(OrderChanged), place.atomic():
        advance(place, stale, changes={}, kind="payment_updated", actor="t", detail="", now=timezone.now())

    assert event_versions(order.id) == [(1, "placed"), (2, "cancelled")]
    assert len(outbox_of(order.id)) == 2


def test_a_change_of_several_orders_is_all_or_nothing():
    orders = [placed_order(make_buyer(shard=0)) for _ in range(3)]
    rows = [find_order(order.id) for order in orders]
    cancel(orders[1])

    with pytest.raises(OrderChanged), shard_atomic("shard_0", {slot_of(order.id) for order in orders}):
        advance_all("shard_0", rows, changes={}, kind="x", actor="t", detail="", now=timezone.now())

    assert [find_order(order.id).version for order in orders] == [1, 2, 1]


def test_a_transition_outside_the_table_is_refused():
    order = placed_order()
    cancel(order)

    with pytest.raises(ForbiddenTransition):
        change(order, {"closed_as": "", "payment_status": PaymentStatus.PAID}, "paid")
    with pytest.raises(ValueError, match="do not change"):
        change(order, {"total": 1}, "paid")


@pytest.mark.parametrize("shard", [0, 1])
def test_unpaid_orders_end_when_their_time_is_up(shard):
    now = timezone.now()
    buyer, sku = make_buyer(shard=shard), make_sku(10)
    overdue = [placed_order(buyer, [(sku, 1)]) for _ in range(3)]
    fresh = placed_order(buyer, [(sku, 1)])
    for order in overdue:
        expire_at(order.id, now - timedelta(seconds=1))

    expire_orders(now=now)
    sync_due_stock(now=timezone.now())

    assert {get_order(user_id=buyer.user_id, order_id=order.id).status for order in overdue} == {"expired"}
    assert get_order(user_id=buyer.user_id, order_id=fresh.id).status == "pending_payment"
    assert event_versions(overdue[0].id) == [(1, "placed"), (2, "expired")]
    assert counters(sku) == (10, 1)


def test_more_orders_than_a_batch_end_in_one_pass(monkeypatch):
    monkeypatch.setattr(expiry, "BATCH_SIZE", 2)
    now = timezone.now()
    orders = [placed_order() for _ in range(5)]
    for order in orders:
        expire_at(order.id, now - timedelta(seconds=1))  # all at one time: the scan's key is time and id

    expire_orders(now=now)

    assert {find_order(order.id).status for order in orders} == {"expired"}


def test_a_sweep_ends_its_turn_in_time_and_the_next_goes_on(monkeypatch):
    now = timezone.now()
    expire_orders(now=now)
    orders = [placed_order(make_buyer(shard=0)) for _ in range(3)]
    for order in orders:
        expire_at(order.id, now - timedelta(seconds=1))
    monkeypatch.setattr(expiry, "BATCH_SIZE", 2)
    monkeypatch.setattr(expiry, "TURN_S", 0.0)

    ended = [ExpirySweep("shard_0", now=now).run() for _ in range(2)]

    assert ended == [2, 1]
    assert {find_order(order.id).status for order in orders} == {"expired"}


def test_while_one_sweep_is_at_a_shard_another_leaves_it_alone():
    now = timezone.now()
    order = placed_order(make_buyer(shard=0))
    expire_at(order.id, now - timedelta(seconds=1))
    is_held, may_end = threading.Event(), threading.Event()

    def hold():
        with named_lock("shard_0", "expire-orders"):
            is_held.set()
            may_end.wait(20)
        connections.close_all()

    other = threading.Thread(target=hold)
    other.start()
    try:
        assert is_held.wait(20)
        expire_orders(now=now)
        assert find_order(order.id).status == "pending_payment"
    finally:
        may_end.set()
        other.join(20)

    expire_orders(now=now)
    assert find_order(order.id).status == "expired"


def test_a_payment_that_comes_before_the_end_wins(monkeypatch):
    now = timezone.now()
    order = placed_order()
    expire_at(order.id, now - timedelta(seconds=1))
    ask_first = expiry.orders_with_open_attempts

    def paid_meanwhile(alias, order_ids):
        found = ask_first(alias, order_ids)
        pay(order)
        return found

    monkeypatch.setattr(expiry, "orders_with_open_attempts", paid_meanwhile)
    report = expire_orders(now=now)

    assert report.counts.get("changed", 0) >= 1
    assert find_order(order.id).status == "paid"


@pytest.mark.parametrize(
    ("word", "status"), [(AttemptStatus.SUCCEEDED, "paid"), (AttemptStatus.REQUIRES_ACTION, "expired")]
)
def test_the_provider_is_asked_about_an_open_attempt_first(monkeypatch, word, status):
    now = timezone.now()
    order = placed_order()
    start_attempt(order)
    expire_at(order.id, now - timedelta(seconds=1))
    monkeypatch.setattr(expiry, "ask_provider", lambda attempt: PaymentOutcome(word))

    expire_orders(now=now)

    assert find_order(order.id).status == status
    assert {attempt.status for attempt in attempts_of(order.id)} <= {"succeeded", "cancelled"}


def test_an_order_waits_for_a_silent_provider_for_a_bounded_time(monkeypatch):
    now = timezone.now()
    waiting, other = placed_order(), placed_order()
    start_attempt(waiting)
    for order in (waiting, other):
        expire_at(order.id, now - timedelta(seconds=1))
    monkeypatch.setattr(expiry, "ask_provider", silent)

    expire_orders(now=now)
    assert (find_order(waiting.id).status, find_order(other.id).status) == ("pending_payment", "expired")

    expire_orders(now=now + timedelta(seconds=settings.ORDER_EXPIRY_PROVIDER_GRACE_S))
    assert find_order(waiting.id).status == "expired"


def silent(attempt):
    raise ProviderUnavailable("It does not answer.")


def test_the_stock_follows_the_state_however_often_it_is_told():
    sku = make_sku(10)
    held, settled, released = (placed_order(items=[(sku, 2)]) for _ in range(3))
    pay(settled)
    cancel(released)

    for _ in range(2):
        sync_stock_of([held.id, settled.id, released.id, 4711 << 12], now=timezone.now())

    assert counters(sku) == (8, 2)
    states = {hold.order_id: hold.state for hold in holds_of("inventory", [held.id, settled.id, released.id])}
    assert states == {held.id: "held", settled.id: "settled", released.id: "released"}


def test_a_follow_up_that_got_new_facts_meanwhile_stays_due(monkeypatch):
    order = placed_order()
    cancel(order)
    move = stock.sync_stock_of

    def new_fact_meanwhile(order_ids, *, now):
        with place_of_order(order.id).atomic():
            owe_stock_change(place_of_order(order.id), order.id, now=now)
        return move(order_ids, now=now)

    with monkeypatch.context() as patched:
        patched.setattr(stock, "sync_stock_of", new_fact_meanwhile)
        sync_due_stock(now=timezone.now(), limit=1000)

    assert owed(order)
    sync_due_stock(now=timezone.now())
    assert not owed(order)


def test_stock_that_cannot_be_moved_now_is_moved_later(monkeypatch):
    sku = make_sku(5)
    order = placed_order(items=[(sku, 1)])
    cancel(order)

    def away(*args, **kwargs):
        raise OperationalError(2002, "Can't connect")

    with monkeypatch.context() as patched:
        patched.setattr(stock, "inventory", type("Away", (), {"release": away, "settle": away, "restock": away}))
        sync_due_stock(now=timezone.now())
    assert counters(sku) == (5, 1)

    sync_due_stock(now=timezone.now() + timedelta(seconds=10))
    assert counters(sku) == (5, 0)
