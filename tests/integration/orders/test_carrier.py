"""Shipments at the sandbox carrier, a process of its own: booked once whatever dies, told of by signed events."""

import json
from datetime import timedelta

import pytest
from django.conf import settings as django_settings
from django.utils import timezone

from apps.orders.carriers import registry
from apps.orders.carriers.registry import find_carrier
from apps.orders.errors import CarrierUnavailable
from apps.orders.services import tracking
from apps.orders.services.shipping import BOOKING, cancel_shipment
from apps.orders.services.tracking import book_due_shipments
from apps.orders.shipment_selectors import get_shipment
from infra.followups.models import FollowUpRow
from infra.sharding.places import place_of_order
from tests.factories.payments import SECRET, Listener, RunningSandbox, running_sandbox, wait_until
from tests.factories.shipping import BOB, deliver, paid_order, prepare, statuses

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture(scope="module")
def listener():
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture(scope="module")
def process(tmp_path_factory, listener):
    with running_sandbox(tmp_path_factory.mktemp("courier"), callback_url=listener.url) as sandbox:
        yield sandbox


@pytest.fixture
def courier(process, settings):
    """The sandbox that the application's carrier talks to."""
    options = {**django_settings.SHIPPING_CARRIERS["sandbox"], "url": process.url, "secret": SECRET}
    settings.SHIPPING_CARRIERS = {"sandbox": options}
    registry._build.cache_clear()
    yield process
    registry._build.cache_clear()


def taken_of(listener, reference):
    """Return status, body and headers of the events about a parcel, in the order of their arrival."""
    return [
        (json.loads(body)["parcel"]["status"], body, headers)
        for _, headers, body in tuple(listener.deliveries)
        if json.loads(body).get("parcel", {}).get("reference") == reference
    ]


def owed(order):
    rows = FollowUpRow.objects.using(place_of_order(order.id).alias)
    return rows.filter(slot=place_of_order(order.id).slot, order_id=order.id, kind=BOOKING).count()


def book(**fields):
    return book_due_shipments(now=timezone.now(), limit=1000, **fields)


def scan(courier: RunningSandbox, number, status, **fields):
    return courier.call("POST", f"/parcels/{number}", json={"status": status, **fields})


def test_a_shipment_is_booked_scanned_and_delivered(courier, listener):
    order = paid_order((2,))
    prepare(order, carrier="sandbox")
    assert owed(order) == 1

    book()

    shipment = get_shipment(order.id, 1)
    assert (shipment.status, shipment.number[:2], owed(order)) == ("prepared", "SB", 0)
    assert courier.call("GET", f"/v1/parcels/{shipment.shipment_id}").json()["number"] == shipment.number
    assert scan(courier, shipment.number, "handed_over", place="London").status_code == 200
    assert scan(courier, shipment.number, "in_transit", place="Leeds").status_code == 200
    assert scan(courier, shipment.number, "delivered", place="York", times=2).status_code == 200
    wait_until(lambda: len(taken_of(listener, shipment.shipment_id)) == 4, what="the track events")

    taken = [deliver(body, headers) for _, body, headers in taken_of(listener, shipment.shipment_id)]

    assert sorted(taken) == [False, True, True, True]
    assert statuses(order) == ("completed", "delivered")
    assert [step.place for step in get_shipment(order.id, 1).track] == ["London", "Leeds", "York"]


def test_a_crash_after_the_call_books_the_parcel_once(courier, monkeypatch):
    order = paid_order()
    shipment = prepare(order, carrier="sandbox")

    def die(*args, **kwargs):
        raise CarrierUnavailable("It did not answer.")

    with monkeypatch.context() as dying:
        dying.setattr(tracking, "_note_booking", die)
        book()
    known = courier.call("GET", f"/v1/parcels/{shipment.shipment_id}").json()["number"]
    assert (get_shipment(order.id, 1).number, owed(order)) == ("", 1)

    book_due_shipments(now=timezone.now() + timedelta(seconds=5), limit=1000)

    assert (get_shipment(order.id, 1).number, owed(order)) == (known, 0)


def test_a_carrier_that_is_down_is_asked_again(courier, settings):
    order = paid_order()
    shipment = prepare(order, carrier="sandbox")
    options = settings.SHIPPING_CARRIERS["sandbox"]
    settings.SHIPPING_CARRIERS = {"sandbox": {**options, "url": "http://127.0.0.1:9"}}
    registry._build.cache_clear()
    book()
    assert (get_shipment(order.id, 1).number, owed(order)) == ("", 1)

    settings.SHIPPING_CARRIERS = {"sandbox": options}
    registry._build.cache_clear()
    book_due_shipments(now=timezone.now() + timedelta(seconds=5), limit=1000)

    assert get_shipment(order.id, 1).number
    assert find_carrier("sandbox").cancel(shipment.shipment_id) is None


def test_a_booking_that_is_no_longer_wanted_is_called_off_also_when_it_came_late(courier, monkeypatch):
    order = paid_order()
    shipment = prepare(order, carrier="sandbox")
    note = tracking._note_booking

    def cancelled_meanwhile(*args, **kwargs):
        cancel_shipment(order_id=order.id, n=1, reason="", actor=BOB, now=timezone.now())
        note(*args, **kwargs)

    with monkeypatch.context() as racing:
        racing.setattr(tracking, "_note_booking", cancelled_meanwhile)
        book()
    assert owed(order) == 1
    book()

    assert owed(order) == 0
    assert courier.call("GET", f"/v1/parcels/{shipment.shipment_id}").json()["status"] == "cancelled"
    assert get_shipment(order.id, 1).status == "cancelled"


def test_a_booked_parcel_is_fetched_by_itself_and_the_event_is_owed_across_a_kill(tmp_path, listener):
    with running_sandbox(tmp_path, callback_url=listener.url, fetched_after_s=0.1) as sandbox:
        listener.status = 503
        body = {"reference": "shp_7_1", "to": {"country": "GB"}, "pieces": 1}
        assert sandbox.call("POST", "/v1/parcels", json=body).json()["status"] == "booked"
        wait_until(lambda: taken_of(listener, "shp_7_1"), what="a first try")
        sandbox.kill()
        listener.status = 200
        listener.deliveries.clear()
        sandbox.start()
        wait_until(lambda: taken_of(listener, "shp_7_1"), what="the event")
        assert sandbox.call("POST", "/v1/parcels/shp_7_1/cancel").status_code == 409
        assert sandbox.call("POST", "/v1/parcels", json=body).json()["status"] == "handed_over"


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/v1/parcels/shp_9_9", {}, 404),
        ("POST", "/v1/parcels/shp_9_9/cancel", {}, 404),
        ("GET", "/parcels/SB0", {}, 404),
        ("POST", "/parcels/SB0", {"json": {"status": "delivered"}}, 404),
        ("POST", "/parcels/SB0", {"json": {"status": "lost"}}, 400),
        ("POST", "/parcels/SB0", {"json": {"status": "delivered", "times": 11}}, 400),
        ("POST", "/parcels/SB0", {"json": {"status": "delivered", "place": 1}}, 400),
        ("POST", "/v1/parcels", {"json": {"reference": "shp_9_9", "to": {}, "pieces": 1}}, 400),
        ("POST", "/v1/parcels", {"json": {"reference": "shp_9_9", "to": {"country": "GB"}, "pieces": 0}}, 400),
        ("POST", "/v1/parcels", {"headers": {"Authorization": "Bearer x"}}, 401),
    ],
)
def test_bad_requests_are_told_as_json(process, method, path, options, status):
    answer = process.call(method, path, **options)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"]


def test_a_parcel_can_be_called_off_until_it_is_fetched_and_its_page_shows_buttons(process):
    booked = process.call("POST", "/v1/parcels", json={"reference": "shp_8_1", "to": {"country": "GB"}, "pieces": 2})
    number = booked.json()["number"]
    page = process.call("GET", f"/parcels/{number}")
    assert 'value="delivered"' in page.text
    pressed = process.call("POST", f"/parcels/{number}", data={"status": "in_transit"})
    assert "in_transit" in pressed.text  # after the redirect to the page
    assert process.call("POST", "/v1/parcels/shp_8_1/cancel").status_code == 409
