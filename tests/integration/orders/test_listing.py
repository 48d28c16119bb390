"""A shopper's list over the months, the search in it, and the staff's list over the shards."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.conf import settings
from django.db import connections
from django.utils import timezone

from apps.orders import selectors
from apps.orders.errors import OrderNotFound
from apps.orders.models import Order, OrderKind, OrderLine
from apps.orders.selectors import (
    get_order,
    list_orders,
    order_events,
    recent_orders,
)
from apps.orders.services.cancellation import cancel_order
from apps.orders.types import OrderFilter
from apps.users.services import note_order_month
from infra.sharding.bootstrap import make_months
from infra.sharding.ids import imported_id
from infra.sharding.months import Month
from infra.sharding.places import place_of_user
from infra.sharding.slots import slot_of_user
from tests.factories.orders import make_buyer, make_sku, placed_order
from tests.factories.plans import explain_word

pytestmark = pytest.mark.usefixtures("committed")

OLD_MONTHS = [Month(2012, month) for month in (1, 2, 3)]


@pytest.fixture(scope="module", autouse=True)
def old_months(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        for month in OLD_MONTHS:
            make_months(month, forecast=1000)


def past_order(user_id, at, *, status="completed", title="Lamp", city="Leeds", number="1"):
    """Write an order of long ago, as an import does."""
    place, month = place_of_user(user_id), Month.of(at)
    order_id = imported_id(slot=slot_of_user(user_id), at=at, source=f"test-{user_id}", number=number)
    Order.objects.model_for(month)(
        slot=place.slot,
        id=order_id,
        user_id=user_id,
        status=status,
        payment_status="paid",
        fulfillment_status="delivered",
        currency="GBP",
        subtotal=Decimal(1),
        total=Decimal(1),
        city=city,
        updated_at=at,
    ).save(using=place.alias, force_insert=True)
    OrderLine.objects.model_for(month)(
        slot=place.slot, order_id=order_id, line=1, sku="L", title=title, quantity=1, unit_price=1, line_total=1
    ).save(using=place.alias, force_insert=True)
    with place.atomic():
        note_order_month(user_id, month)
    return order_id


def at(month, day=1, hour=0):
    return datetime(2012, month, day, hour, tzinfo=UTC)


def pages(user_id, narrowed=None, *, limit=2):
    """Walk the list to its end and return the ids page by page."""
    found, before_id = [], None
    while True:
        page = list_orders(user_id=user_id, narrowed=narrowed or OrderFilter(), limit=limit, before_id=before_id)
        found.append([order.id for order in page.rows])
        if page.next_key is None:
            return found
        before_id = int(page.next_key[0])


@pytest.mark.parametrize("shard", [0, 1])
def test_a_list_walks_the_months_backwards_page_by_page(shard):
    buyer = make_buyer(shard=shard)
    old = [past_order(buyer.user_id, at(month, day), number=f"{month}.{day}") for month in (1, 3) for day in (1, 2)]
    new = placed_order(buyer).id
    placed_order()  # somebody else's

    walked = pages(buyer.user_id)

    assert [order_id for page in walked for order_id in page] == [new, *reversed(old)]
    assert all(len(page) <= 2 for page in walked)


def test_a_request_looks_into_a_bounded_number_of_months_and_goes_on_from_there(monkeypatch):
    monkeypatch.setattr(selectors, "MAX_MONTHS_A_PAGE", 2)
    buyer = make_buyer()
    old = past_order(buyer.user_id, at(1))
    recent = past_order(buyer.user_id, at(3))

    first = list_orders(user_id=buyer.user_id, narrowed=OrderFilter(), limit=5)

    assert [order.id for order in first.rows] == [recent]
    assert first.next_key == [Month(2012, 2).first_id]
    assert pages(buyer.user_id, limit=5) == [[recent], [old]]


def test_months_that_were_never_made_are_passed_over():
    buyer = make_buyer()
    old, new = past_order(buyer.user_id, at(1)), placed_order(buyer).id

    assert pages(buyer.user_id, limit=5) == [[new, old]]


def test_a_list_is_narrowed_by_status_and_time():
    buyer = make_buyer()
    first = past_order(buyer.user_id, at(1, 5))
    second = past_order(buyer.user_id, at(2, 5), status="cancelled")
    third = past_order(buyer.user_id, at(3, 5))

    def found(**narrowed):
        return [order_id for page in pages(buyer.user_id, OrderFilter(**narrowed)) for order_id in page]

    assert found(status="cancelled") == [second]
    assert found(placed_from=at(2)) == [third, second]
    assert found(placed_to=at(3)) == [second, first]
    placed_at = get_order(user_id=buyer.user_id, order_id=second).placed_at
    assert found(placed_from=placed_at, placed_to=placed_at + timedelta(milliseconds=1)) == [second]
    assert found(placed_from=placed_at + timedelta(microseconds=1), placed_to=at(3)) == []
    assert found(placed_to=placed_at, placed_from=at(2)) == []
    assert found(placed_from=datetime.max.replace(tzinfo=UTC)) == []
    assert found(placed_to=datetime.min.replace(tzinfo=UTC)) == []


def test_a_shopper_without_orders_has_an_empty_list():
    assert pages(make_buyer().user_id) == [[]]


def test_a_search_finds_titles_numbers_and_cities_of_ones_own_orders():
    buyer, other = make_buyer(), make_buyer()
    lamp = past_order(buyer.user_id, at(1, 1), title="Red LAMP 100%", city="York", number="a")
    rug = past_order(buyer.user_id, at(1, 2), title="Rug", city="Lancaster", number="b")
    past_order(other.user_id, at(1, 1), title="Red lamp", city="York")

    def found(text):
        return [o for page in pages(buyer.user_id, OrderFilter(text=text), limit=5) for o in page]

    assert found("red lamp") == [lamp]
    assert found("lancas") == [rug]
    assert found(str(rug)) == [rug]
    assert found("100%") == [lamp]
    assert found("%") == [lamp]
    assert found("_") == []


def test_a_search_looks_at_a_bounded_number_of_orders_a_request_and_goes_on_from_there(monkeypatch):
    monkeypatch.setattr(selectors, "MAX_ORDERS_SEARCHED", 2)
    buyer = make_buyer()
    wanted = [
        past_order(buyer.user_id, at(month, day), title="Lamp" if day % 2 else "Jug", number=f"{month}-{day}")
        for month in (1, 2)
        for day in (1, 2, 3)
    ]
    found = pages(buyer.user_id, OrderFilter(text="jug"), limit=5)
    assert [len(page) for page in found] == [1, 0, 1, 0]
    assert [order for page in found for order in page] == [wanted[4], wanted[1]]
    assert [len(page) for page in pages(buyer.user_id, limit=5)] == [5, 1]


def test_an_order_of_somebody_else_is_not_found():
    order = placed_order()
    same_slot_stranger = order.user_id + 1

    for user_id in (make_buyer().user_id, same_slot_stranger):
        with pytest.raises(OrderNotFound):
            get_order(user_id=user_id, order_id=order.id)
        with pytest.raises(OrderNotFound):
            order_events(user_id=user_id, order_id=order.id)


@pytest.mark.parametrize("order_id", [1, 2**63 - 1, 4711 << 12])
def test_an_id_that_no_order_has_is_not_found(order_id):
    with pytest.raises(OrderNotFound):
        get_order(user_id=make_buyer().user_id, order_id=order_id)


def test_a_tombstone_is_no_order_to_anybody():
    order = placed_order()
    Order.objects.for_order(order.id).filter(id=order.id).update(kind=OrderKind.VOID, status="void")

    with pytest.raises(OrderNotFound):
        get_order(user_id=order.user_id, order_id=order.id)
    assert pages(order.user_id) == [[]]
    assert order.id not in [row.id for row in recent_orders(narrowed=OrderFilter(), limit=100).rows]


def test_the_events_of_an_order_come_oldest_first():
    order = placed_order()
    cancel_order(user_id=order.user_id, order_id=order.id, reason="", now=timezone.now())

    events = order_events(user_id=order.user_id, order_id=order.id)

    assert [(event.version, event.kind, event.actor) for event in events] == [
        (1, "placed", "shopper"),
        (2, "cancelled", "shopper"),
    ]


def test_the_staff_see_all_shards_newest_first():
    sku = make_sku()
    placed = [placed_order(make_buyer(shard=number % 2), [(sku, 1)]).id for number in range(6)]

    first = recent_orders(narrowed=OrderFilter(), limit=4)
    second = recent_orders(narrowed=OrderFilter(), limit=4, before_id=int(first.next_key[0]))

    assert [row.id for row in first.rows] == sorted(placed, reverse=True)[:4]
    assert [row.id for row in second.rows][:2] == sorted(placed, reverse=True)[4:]


def test_the_staff_narrow_by_shopper_status_and_shard():
    order = placed_order(make_buyer(shard=1))

    def found(**narrowed):
        return [row.id for row in recent_orders(limit=100, **narrowed).rows]

    assert found(narrowed=OrderFilter(), user_id=order.user_id) == [order.id]
    assert order.id in found(narrowed=OrderFilter(status="pending_payment"))
    assert order.id not in found(narrowed=OrderFilter(status="paid"))
    assert order.id not in found(narrowed=OrderFilter(), aliases=settings.SHARD_ALIASES[:1])


def test_statements_about_an_order_open_one_partition():
    order = placed_order()
    place = place_of_user(order.user_id)
    table = Order.objects.table_for(Month.of_id(order.id))

    def partitions(sql, *parameters):
        with connections[place.alias].cursor() as cursor:
            cursor.execute(f"{explain_word(connections[place.alias])} {sql}", parameters)
            row = dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))
            return row["partitions"]

    pruned = partitions(f"UPDATE {table} SET version = 2 WHERE (slot = %s AND id = %s)", place.slot, order.id)
    everywhere = partitions(f"UPDATE {table} SET version = 2 WHERE id = %s", order.id)
    assert "," not in pruned
    assert everywhere != pruned or "," not in everywhere
