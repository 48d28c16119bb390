"""The staff's forms on an order's page: shipments, by whom, at which version of the order."""

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from apps.orders.services.returns import request_return
from apps.orders.services.shipping import hand_over
from apps.orders.shipment_selectors import shipments_of
from tests.factories.orders import event_versions
from tests.factories.shipping import paid_order, prepare, reload, shipped, statuses
from tests.factories.staff import logged_in, make_operator

pytestmark = [
    pytest.mark.django_db(databases=list(settings.DATABASES)),
    pytest.mark.usefixtures("staff_site"),
]


@pytest.fixture
def packer():
    """Somebody who may look at orders and ship them, and nothing else."""
    return logged_in(make_operator("ship_order", "view_order"))


def act(client, order, action, **fields):
    fields.setdefault("version", reload(order).version)
    answer = client.post(f"/admin/orders/{order.id}/shipping/", {"action": action, **fields}, follow=True)
    return answer.content.decode()


def test_an_order_is_shipped_on_its_page(packer):
    order = paid_order((2, 1))
    first, second = (item.sku for item in order.items)
    page = packer.get(f"/admin/orders/{order.id}/").content.decode()
    assert "Prepare a shipment" in page
    assert f'name="units-{first}" value="2"' in page

    assert "Done: prepare." in act(packer, order, "prepare", **{f"units-{first}": "2", f"units-{second}": "0"})
    assert statuses(order) == ("fulfilling", "partial")
    assert "Done: hand_over" in act(packer, order, "hand_over", n=1, carrier="hermes", number="H-1")
    page = act(packer, order, "prepare", **{f"units-{second}": "1"})
    assert "H-1" in page
    act(packer, order, "cancel", n=2, reason="wrong box")
    act(packer, order, "prepare", **{f"units-{second}": "1"})
    act(packer, order, "hand_over", n=3, carrier="hermes", number="H-2")
    act(packer, order, "deliver", n=1)
    assert "Prepare a shipment" not in act(packer, order, "deliver", n=3)

    assert statuses(order) == ("completed", "delivered")
    assert [shipment.status for shipment in shipments_of(order.id)] == ["delivered", "cancelled", "delivered"]
    told = LogEntry.objects.filter(object_id=str(order.id)).values_list("change_message", flat=True)
    assert "cancel shipment 2 wrong box" in set(told)
    assert event_versions(order.id)[-1][1] == "completed"


def test_an_order_is_found_by_its_tracking_number(packer):
    order = paid_order((2,))
    number = f"T{order.id}"
    hand_over(order_id=order.id, n=prepare(order).n, carrier="hermes", number=number, actor="x", now=timezone.now())
    answer = packer.get("/admin/orders/", {"tracking": f" {number} "})
    assert answer.headers["Location"] == f"/admin/orders/{order.id}/#shipment-1"
    for unknown in (f"{number}0", "\u00e4", number.lower()):
        assert "No shipment has this number" in packer.get("/admin/orders/", {"tracking": unknown}).content.decode()


def test_a_stale_page_or_a_second_click_changes_nothing(packer):
    order = paid_order((2,))
    sku, version = order.items[0].sku, reload(order).version
    first = act(packer, order, "prepare", version=version, **{f"units-{sku}": "1"})
    again = act(packer, order, "prepare", version=version, **{f"units-{sku}": "1"})
    assert "Done" in first
    assert "The order has changed since" in again
    assert "shipment_prepared by staff:" in again
    assert len(shipments_of(order.id)) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"action": "destroy"},
        {"action": "prepare", "units-X": "1"},
        {"action": "prepare", "units-X": "-1"},
        {"action": "prepare", "carrier": "nobody"},
        {"action": "hand_over", "n": "1", "carrier": "hermes", "number": ""},
        {"action": "hand_over", "n": "7", "carrier": "hermes", "number": "1"},
        {"action": "cancel", "n": "1", "reason": ""},
        {"action": "deliver", "n": "99999999999999999999"},
        {"action": "collect", "version": "x"},
    ],
    ids=str,
)
def test_what_makes_no_sense_changes_nothing(packer, fields):
    order = paid_order((2,))
    body = {"version": reload(order).version, **fields}
    assert packer.post(f"/admin/orders/{order.id}/shipping/", body).status_code in (302, 404)
    assert statuses(order) == ("paid", "none")


def test_only_who_may_ship_is_offered_it_or_can_do_it():
    order = paid_order((2,))
    other = logged_in(make_operator("view_order", username="eve"))
    assert "Prepare a shipment" not in other.get(f"/admin/orders/{order.id}/").content.decode()
    body = {"action": "collect", "version": reload(order).version}
    assert other.post(f"/admin/orders/{order.id}/shipping/", body).status_code == 403
    assert statuses(order) == ("paid", "none")


@pytest.mark.parametrize("number", [1, 2**63 - 1, 2**63])
def test_an_order_that_is_not_there_is_not_found(packer, number):
    body = {"action": "collect", "version": 1}
    assert packer.post(f"/admin/orders/{number}/shipping/", body).status_code == 404


def test_a_return_is_approved_and_received_on_the_order_s_page():
    order = paid_order((2,))
    sku = order.items[0].sku
    shipped(order)
    request_return(user_id=order.user_id, order_id=order.id, items=[(sku, 2)], reason="dim", now=timezone.now())
    clerk = logged_in(make_operator("receive_return", "view_order", username="ann"))

    def decide(action, version=None, **fields):
        body = {"action": action, "version": version or reload(order).version, **fields}
        return clerk.post(f"/admin/orders/{order.id}/returns/1/", body, follow=True).content.decode()

    assert str(order.id) in clerk.get("/admin/returns/").content.decode()
    assert "dim" in clerk.get(f"/admin/orders/{order.id}/").content.decode()
    version = reload(order).version
    assert "is approved" in decide("approve", note="send it")
    assert "The order has changed since" in decide("receive", version=version, **{f"received-{sku}": "1"})
    assert "No more than these can be counted" in decide("receive", **{f"received-{sku}": "3"})
    assert "figures are missing" in decide("receive", **{f"received-{sku}": "x"})
    page = decide("receive", **{f"received-{sku}": "1", f"restocked-{sku}": "0"})
    assert "is received" in page
    assert f"re_{order.id}_1" in page
    assert str(order.id) not in clerk.get("/admin/returns/").content.decode()
    body = {"action": "approve", "version": reload(order).version}
    assert clerk.post(f"/admin/orders/{order.id}/returns/9/", body).status_code == 404


def test_only_who_may_receive_returns_sees_them_listed(packer):
    assert packer.get("/admin/returns/").status_code == 403
    assert packer.post("/admin/orders/1/returns/1/", {"action": "approve", "version": 1}).status_code == 403
