"""Placing orders over two databases."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.conf import settings
from django.db import OperationalError, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from msgspec.structs import replace

from apps.catalog.models import Price
from apps.inventory.selectors import find_hold, holds_of
from apps.orders.errors import (
    CouponNotApplicable,
    CurrencyMismatch,
    InsufficientPoints,
    InsufficientStock,
    PriceChanged,
)
from apps.orders.selectors import get_order
from apps.orders.services import drafting, placement
from apps.orders.services.cancellation import cancel_order
from apps.orders.services.placement import place_order
from apps.orders.services.reaper import HoldReaper
from apps.users.selectors import order_months
from infra.errors import LimitReached, OutcomeUnknown, Overloaded, ValidationFailed
from infra.idempotency.errors import IdempotencyKeyReused, RequestInProgress
from infra.sharding.ids import slot_of, time_of
from infra.sharding.months import Month
from infra.sharding.places import place_of_order, place_of_user
from infra.sharding.slots import slot_of_user
from tests.factories.inventory import counters
from tests.factories.orders import (
    complete_draft,
    event_versions,
    make_buyer,
    make_sku,
    order_request,
    order_rows,
    outbox_of,
    placed_order,
)

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture(autouse=True)
def alone(settings):
    """Have each order committed by its own request, on the test's own connections; batches have tests of their own."""
    settings.ORDER_COMMIT_BATCH = 1


def place(request):
    return place_order(request, now=timezone.now())


def hold_states(request):
    return [hold.state for hold in find_hold(user_id=request.key.user_id, request_digest=request.key.digest)]


@pytest.mark.parametrize("shard", [0, 1])
def test_an_order_is_written_whole_on_its_users_shard(shard):
    buyer = make_buyer(shard=shard)
    lamp, rug = make_sku(10, price="2.55", title="Lamp"), make_sku(10, price="3.39", title="Rug")

    placed = place(order_request(buyer, [(lamp, 6), (rug, 2), (lamp, 1)], note="Ring twice"))

    order = placed.order
    assert not placed.replayed
    assert (order.status, order.payment_status, order.fulfillment_status) == ("pending_payment", "unpaid", "none")
    assert (order.subtotal, order.total, order.currency) == (Decimal("24.63"), Decimal("24.63"), "GBP")
    assert [(item.line, item.sku, item.title, item.quantity) for item in order.items] == [
        (1, lamp, "Lamp", 7),
        (2, rug, "Rug", 2),
    ]
    assert order.expires_at == order.placed_at + timedelta(seconds=settings.ORDER_UNPAID_EXPIRY_S)
    assert order.placed_at == time_of(order.id)
    assert place_of_order(order.id).alias == settings.SHARD_ALIASES[shard]
    assert slot_of(order.id) == slot_of_user(buyer.user_id)
    assert get_order(user_id=buyer.user_id, order_id=order.id) == order
    assert event_versions(order.id) == [(1, "placed")]
    assert outbox_of(order.id) == [(1, "order.placed")]
    assert counters(lamp) == (10, 7)
    assert order_months(buyer.user_id) == (Month.of_id(order.id).number, Month.of_id(order.id).number)


def test_personal_data_is_unreadable_in_the_tables():
    order = placed_order(note="Ring twice", items=[(make_sku(), 1)])

    place_ = place_of_order(order.id)
    with connections[place_.alias].cursor() as cursor:
        cursor.execute(f"SELECT * FROM orders_order_{Month.of_id(order.id).suffix} WHERE id = %s", [order.id])
        text = repr(cursor.fetchone())
        cursor.execute("SELECT payload FROM outbox_event WHERE aggregate_id = %s", [order.id])
        event = repr(cursor.fetchone())
    assert order.address["name"] == "Ada Lovelace"
    assert order.note == "Ring twice"
    for private in ("Ada", "Square", "+4416", "Ring"):
        assert private not in text
        assert private not in event
    assert "London" in text


def test_the_same_request_again_gets_the_order_as_it_was_placed():
    buyer, sku = make_buyer(), make_sku(5)
    request = order_request(buyer, [(sku, 1)])
    first = place(request)
    cancel_order(user_id=buyer.user_id, order_id=first.order.id, reason="", now=timezone.now())
    Price.objects.filter(sku__code=sku).update(amount=Decimal("9.99"))

    again = place(request)

    assert again.replayed
    assert again.order == first.order
    assert counters(sku)[0] == 5


def test_the_same_key_for_another_body_is_refused():
    buyer, sku = make_buyer(), make_sku(5)
    place(order_request(buyer, [(sku, 1)], key="a"))

    with pytest.raises(IdempotencyKeyReused):
        place(order_request(buyer, [(sku, 2)], key="a"))
    assert counters(sku) == (5, 1)


def test_keys_of_different_users_do_not_meet():
    sku = make_sku(5)

    orders = {place(order_request(make_buyer(), [(sku, 1)], key="same")).order.id for _ in range(3)}

    assert len(orders) == 3


def test_a_refusal_is_not_remembered():
    buyer, sku = make_buyer(), make_sku(0)
    request = order_request(buyer, [(sku, 1)])
    with pytest.raises(InsufficientStock):
        place(request)
    from_supplier(sku, 1)

    assert not place(request).replayed


def from_supplier(sku, units):
    with connections["inventory"].cursor() as cursor:
        cursor.execute("UPDATE inventory_stock SET on_hand = on_hand + %s WHERE sku = %s", [units, sku])


def test_every_short_sku_is_told_at_its_first_line_and_nothing_is_held():
    buyer = make_buyer()
    short, fine, gone = make_sku(3), make_sku(100), make_sku(0)

    with pytest.raises(InsufficientStock) as refusal:
        place(order_request(buyer, [(fine, 1), (short, 2), (gone, 1), (short, 2)]))

    assert [(error.field, error.code, error.extra) for error in refusal.value.errors] == [
        ("/items/1", "insufficient_stock", {"sku": short, "requested": 4, "available": 3}),
        ("/items/2", "insufficient_stock", {"sku": gone, "requested": 1, "available": 0}),
    ]
    assert counters(fine) == (100, 0)


def test_all_that_is_wrong_with_the_lines_is_told_at_once():
    buyer, sku = make_buyer(), make_sku()

    with pytest.raises(ValidationFailed) as refusal:
        place(order_request(buyer, [("no-such", 1), (sku, 600), ("NO-SUCH", 1), (sku, 400)]))

    assert [(error.field, error.code) for error in refusal.value.errors] == [
        ("/items/0/sku", "unknown_sku"),
        ("/items/1/quantity", "max_value"),
        ("/items/2/sku", "unknown_sku"),
    ]


def test_an_address_of_somebody_else_is_unknown():
    sku = make_sku()

    with pytest.raises(ValidationFailed) as refusal:
        place(order_request(make_buyer(), [(sku, 1)], address_id=make_buyer().address_id))
    assert [error.field for error in refusal.value.errors] == ["/address_id"]


def test_an_order_has_one_currency(monkeypatch):
    pounds, euros = make_sku(), make_sku()
    priced = drafting.prices

    def in_two_currencies(skus):
        return {sku: replace(price, currency="EUR" if sku == euros else "GBP") for sku, price in priced(skus).items()}

    monkeypatch.setattr(drafting, "prices", in_two_currencies)
    with pytest.raises(CurrencyMismatch) as refusal:
        place(order_request(make_buyer(), [(pounds, 1), (euros, 1)]))
    assert [error.field for error in refusal.value.errors] == ["/items/1/sku"]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"expected_total": Decimal("2.49")}, PriceChanged),
        ({"coupons": ("c1",)}, CouponNotApplicable),
        ({"points": 1}, InsufficientPoints),
    ],
)
def test_what_can_fail_without_a_claim_claims_nothing(changes, error):
    sku = make_sku(5)
    request = order_request(make_buyer(), [(sku, 1)], **changes)

    with pytest.raises(error):
        place(request)
    assert hold_states(request) == []


def test_the_expected_total_may_be_written_with_other_zeros():
    assert place(order_request(make_buyer(), [(make_sku(), 2)], expected_total=Decimal("5"))).order.total == 5


def test_at_most_twenty_orders_wait_for_payment_unless_exempt(settings):
    settings.ORDER_MAX_OPEN_UNPAID = 2
    buyer, sku = make_buyer(), make_sku()
    first = placed_order(buyer, [(sku, 1)], exempt=False)
    placed_order(buyer, [(sku, 1)], exempt=False)

    with pytest.raises(LimitReached):
        place(order_request(buyer, [(sku, 1)], exempt=False))
    placed_order(buyer, [(sku, 1)], exempt=True)
    cancel_order(user_id=buyer.user_id, order_id=first.id, reason="", now=timezone.now())
    with pytest.raises(LimitReached):
        place(order_request(buyer, [(sku, 1)], exempt=False))
    assert counters(sku)[1] == 3


class Writing(Exception):
    """Stands for whatever can go wrong while an order is written."""


def test_a_failed_write_gives_the_stock_back_at_once(monkeypatch):
    sku = make_sku(1)
    request = order_request(make_buyer(), [(sku, 1)])
    with monkeypatch.context() as patched:
        patched.setattr(placement, "insert_orders", failing(Writing))
        with pytest.raises(Writing):
            place(request)

    assert counters(sku) == (1, 0)
    assert hold_states(request) == ["released"]
    assert not place(request).replayed


def test_a_lost_answer_to_the_commit_is_told_as_unknown_and_gives_nothing_back(monkeypatch):
    sku = make_sku(1)
    request = order_request(make_buyer(), [(sku, 1)])
    lose_commit_answers(monkeypatch, place_of_user(request.key.user_id).alias)

    with pytest.raises(OutcomeUnknown):
        place(request)
    monkeypatch.undo()

    assert counters(sku) == (1, 1)
    assert place(request).replayed


def lose_commit_answers(monkeypatch, alias):
    """Have every COMMIT on the alias happen, and its answer be lost."""
    connection = connections[alias]
    commit = connection._commit

    def commit_and_lose():
        commit()
        raise OperationalError(2013, "Lost connection to MySQL server during query")

    monkeypatch.setattr(connection, "_commit", commit_and_lose)


def failing(error):
    def fail(*args, **kwargs):
        raise error

    return fail


def test_an_order_is_not_written_after_its_deadline(monkeypatch, settings):
    sku = make_sku(1)
    request = order_request(make_buyer(), [(sku, 1)])
    late = timedelta(seconds=settings.ORDER_WRITE_DEADLINE_S)
    monkeypatch.setattr(placement, "wall_clock_ms", lambda: int(later_ms(late)))

    with pytest.raises(Overloaded):
        place(request)
    assert counters(sku) == (1, 0)


def later_ms(by):
    return placement.ms_of(timezone.now() + by)


def test_nothing_is_claimed_for_a_request_that_has_waited_too_long(settings):
    settings.ORDER_CLAIM_DEADLINE_S = -1
    request = order_request(make_buyer(), [(make_sku(1), 1)])

    with pytest.raises(Overloaded):
        place(request)
    assert hold_states(request) == []


def test_a_tombstone_refuses_the_order_that_comes_later(monkeypatch):
    """The reaper was between this attempt's two commits; without the tombstone the order would stand without stock."""
    sku = make_sku(1)
    request = order_request(make_buyer(), [(sku, 1)])
    write = placement._write

    def reaped_before_writing(alias, held, *, now):
        HoldReaper().reap(now=timezone.now() + timedelta(seconds=60))
        return write(alias, held, now=now)

    with monkeypatch.context() as patched:
        patched.setattr(placement, "_write", reaped_before_writing)
        with pytest.raises(Overloaded):
            place(request)

    assert counters(sku) == (1, 0)
    [hold] = find_hold(user_id=request.key.user_id, request_digest=request.key.digest)
    assert [row.status for row in order_rows(hold.order_id)] == ["void"]
    again = place(request)
    assert not again.replayed
    assert again.order.id != hold.order_id


def test_while_an_earlier_attempt_holds_the_stock_a_repeat_gets_no_verdict(settings):
    settings.ORDER_REPEAT_WAIT_S = 0.1
    buyer, sku = make_buyer(), make_sku(1)
    request = order_request(buyer, [(sku, 1)])
    draft = complete_draft(request)
    assert placement.inventory.reserve([draft.claim], now=timezone.now()) == {draft.order.id: ()}

    with pytest.raises(RequestInProgress):
        place(request)
    with pytest.raises(RequestInProgress):
        place(replace(request, expected_total=Decimal("0.01")))
    placement._write(place_of_user(buyer.user_id).alias, [draft], now=timezone.now())

    assert place(request).order == draft.order


def test_a_batch_gives_each_member_its_own_outcome():
    buyers = [make_buyer(shard=0) for _ in range(4)]
    sku, other = make_sku(2), make_sku(5)
    requests = [order_request(buyer, [(sku, 1), (other, 1)]) for buyer in buyers]
    drafts = [complete_draft(request) for request in requests]
    taken = place(order_request(buyers[1], [(other, 1)], key="t")).order
    drafts[1] = complete_draft(order_request(buyers[1], [(other, 1)], key="t"))

    outcomes = placement.commit_drafts(settings.SHARD_ALIASES[0], drafts, now=timezone.now())

    told = [type(outcomes[draft.order.id]).__name__ for draft in drafts]
    assert told == ["OrderView", "KeyTaken", "OrderView", "InsufficientStock"]
    assert counters(sku) == (2, 2)
    assert counters(other) == (5, 3)
    assert [hold.state for hold in holds_of("inventory", [drafts[1].order.id])] == ["released"]
    assert [len(order_rows(draft.order.id)) for draft in drafts] == [1, 0, 1, 0]
    assert taken.id != drafts[1].order.id


def test_placing_costs_a_bounded_number_of_statements():
    buyer, sku = make_buyer(shard=0), make_sku()
    placed_order(buyer, [(sku, 1)])
    request = order_request(buyer, [(sku, 1)])

    with (
        CaptureQueriesContext(connections["shard_0"]) as on_shard,
        CaptureQueriesContext(connections["inventory"]) as on_inventory,
    ):
        place(request)

    statements = [query["sql"].split()[0] for query in on_shard.captured_queries]
    assert statements.count("INSERT") == 5  # key, order, lines, order event, outbox event
    assert statements.count("UPDATE") <= 1
    assert statements.count("SELECT") <= 3  # key, address, fence
    assert len([q for q in on_inventory.captured_queries if q["sql"].split()[0] in ("INSERT", "UPDATE", "SELECT")]) == 2
