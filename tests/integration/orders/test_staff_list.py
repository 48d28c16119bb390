"""The staff's list: narrowed by what no index serves, in windows, over both shards, and never an order left out."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.conf import settings
from django.utils import timezone

from apps.orders import listing
from apps.orders.listing import StaffFilter, list_for_staff
from apps.orders.services.cancellation import cancel_order_as_staff
from infra.sharding.ids import time_of
from infra.sharding.places import place_of_order
from infra.staff.models import SavedView
from tests.factories.orders import make_buyer, make_sku, placed_order
from tests.factories.users import make_customer, new_phone, registered

pytestmark = [
    pytest.mark.django_db(databases=list(settings.DATABASES)),
    pytest.mark.usefixtures("staff_site"),
]


def cancelled(order):
    return cancel_order_as_staff(order_id=order.id, reason="", actor="staff:1", now=timezone.now())


def walk(narrowed: StaffFilter, *, limit: int, **options) -> list[int]:
    """Return the ids of all pages, one after the other."""
    found: list[int] = []
    before_id = None
    for _ in range(100):
        listed = list_for_staff(narrowed, limit=limit, before_id=before_id, **options)
        assert len(listed.rows) <= limit
        found += [row.id for row in listed.rows]
        if listed.next_before is None:
            return found
        assert before_id is None or listed.next_before < before_id
        before_id = listed.next_before
    raise AssertionError("the pages have no end")


@pytest.mark.parametrize("budget_s", [10.0, 0.0])
@pytest.mark.parametrize("window", [1, 3, 1000])
def test_pages_hold_every_matching_order_once_newest_first(monkeypatch, window, budget_s):
    # given orders on both shards, every third of which is cancelled
    monkeypatch.setattr(listing, "WINDOW_ROWS", window)
    buyers = [make_buyer(shard=0), make_buyer(shard=1)]
    sku = make_sku()
    since = timezone.now() - timedelta(seconds=1)
    orders = [placed_order(buyers[number % 5 % 2], [(sku, 1)]) for number in range(10)]
    wanted = {cancelled(order).id for order in orders[::3]}

    # then pages of any size hold just these, whatever time there was for each
    for limit in (1, 3, 50):
        narrowed = StaffFilter(status="cancelled", placed_from=since)
        assert walk(narrowed, limit=limit, budget_s=budget_s) == sorted(wanted, reverse=True)
        everything = walk(StaffFilter(placed_from=since), limit=limit, budget_s=budget_s)
        assert everything == sorted((order.id for order in orders), reverse=True)


def test_filters_go_together():
    buyer, since = make_buyer(), timezone.now() - timedelta(seconds=1)
    small = placed_order(buyer, [(make_sku(price="1.00"), 1)])
    large = placed_order(buyer, [(make_sku(price="9.00"), 2)])
    one = {"placed_from": since, "user_id": buyer.user_id}
    assert walk(StaffFilter(**one), limit=5) == [large.id, small.id]
    assert walk(StaffFilter(total_from=Decimal(10), **one), limit=5) == [large.id]
    assert walk(StaffFilter(country="GB", currency="GBP", payment_status="unpaid", **one), limit=5) == [
        large.id,
        small.id,
    ]
    assert walk(StaffFilter(country="FR", **one), limit=5) == []
    assert walk(StaffFilter(user_id=buyer.user_id, placed_to=time_of(large.id)), limit=5) == [small.id]


def test_a_number_a_reference_or_a_login_finds_the_order(staff):
    order = placed_order(make_buyer(), [(make_sku(), 1)])
    for wanted in (str(order.id), f"pay_{order.id}_1", f"re_{order.id}_2"):
        found = staff.get("/admin/orders/", {"wanted": wanted})
        assert found.headers["Location"] == f"/admin/orders/{order.id}/"
    phone = new_phone()
    registered(phone)
    assert "No orders" in staff.get("/admin/orders/", {"wanted": phone.value}).content.decode()
    for wanted in ("+449999999999", "nobody@example.org", "a b"):
        assert "no such order" in staff.get("/admin/orders/", {"wanted": wanted}).content.decode()


@pytest.mark.parametrize(
    "asked", [{"user": "x"}, {"country": "gb"}, {"total_from": "-1"}, {"placed_from": "soon"}, {"status": "odd"}]
)
def test_a_filter_that_makes_no_sense_is_told(staff, asked):
    answer = staff.get("/admin/orders/", asked)
    assert answer.status_code == 200
    assert "errorlist" in answer.content.decode()


def test_a_view_is_kept_under_a_name_and_forgotten(staff):
    kept = {"page": "orders", "query": "status=paid&before=5", "back": "/admin/orders/?status=paid"}
    answer = staff.post("/admin/saved-views/", {**kept, "name": "Paid ones"})
    assert answer.headers["Location"] == "/admin/orders/?status=paid"
    assert 'href="?status=paid">Paid ones' in staff.get("/admin/orders/").content.decode()
    staff.post("/admin/saved-views/", {**kept, "name": "Paid ones", "query": "status=expired"})
    [view] = SavedView.objects.all()
    assert view.query == "status=expired"
    staff.post("/admin/saved-views/", {"forget": view.id, "back": "https://evil.example/"})
    assert not SavedView.objects.exists()
    assert "Give the view a name" in staff.post("/admin/saved-views/", kept, follow=True).content.decode()


def test_the_page_of_a_customer_shows_their_latest_orders(staff):
    order = placed_order(make_buyer(), [(make_sku(), 1)])
    assert str(order.id) in staff.get(f"/admin/customers/{order.user_id}/").content.decode()
    assert place_of_order(order.id).alias in staff.get(f"/admin/customers/{order.user_id}/").content.decode()
    assert staff.get(f"/admin/customers/{make_customer().user_id}/").status_code == 200
