"""Carriers' track events: signed, once, in any order; and what shoppers see of them."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import permutations
from threading import Barrier

import pytest
from django.conf import settings as django_settings
from django.db import connections
from django.utils import timezone
from rest_framework.test import APIClient

from apps.orders import metrics
from apps.orders.carriers import registry
from apps.orders.errors import ShipmentNotFound
from apps.orders.models import Track
from apps.orders.services import tracking
from apps.orders.services.shipping import cancel_shipment
from apps.orders.shipment_selectors import get_shipment
from apps.payments.errors import CallbackMalformed, SignatureInvalid
from apps.users.types import Shopper
from deploy.sandbox.signing import SIGNATURE_HEADER, signature_header
from tests.factories.orders import event_versions, make_buyer
from tests.factories.payments import SECRET
from tests.factories.shipping import BOB, deliver, paid_order, prepare, reload, statuses, track_event

pytestmark = pytest.mark.usefixtures("committed", "carrier")


@pytest.fixture
def carrier(settings):
    """The sandbox carrier, with the secret that the tests sign with; nothing of these tests calls it."""
    settings.SHIPPING_CARRIERS = {"sandbox": {**django_settings.SHIPPING_CARRIERS["sandbox"], "secret": SECRET}}
    registry._build.cache_clear()
    yield
    registry._build.cache_clear()


def client_of(user_id):
    client = APIClient()
    client.force_authenticate(user=Shopper(user_id=user_id, session_id="1", exempt=True))
    return client


def call_back(body, headers, *, carrier="sandbox", content_type="application/json"):
    return APIClient().generic(
        "POST", f"/api/v1/shipments/callbacks/{carrier}", body, content_type=content_type, headers=headers
    )


def booked(order, **fields):
    return prepare(order, carrier="sandbox", **fields)


@pytest.mark.parametrize("shard", [0, 1])
def test_events_bring_a_shipment_and_its_order_on(shard):
    order = paid_order((2,), shard=shard)
    shipment = booked(order)
    at = datetime(2026, 11, 22, 12, tzinfo=UTC)

    seen = []
    for hour, status in enumerate(["handed_over", "in_transit", "out_for_delivery", "delivered"]):
        event = track_event(shipment.shipment_id, status, at=at + timedelta(hours=hour), place=f"Place {hour}")
        answer = call_back(*event)
        assert (answer.status_code, answer.json()) == (200, {"received": True})
        seen.append((get_shipment(order.id, 1).status, *statuses(order)))

    assert seen == [
        ("handed_over", "shipped", "shipped"),
        ("in_transit", "shipped", "shipped"),
        ("out_for_delivery", "shipped", "shipped"),
        ("delivered", "completed", "delivered"),
    ]
    answer = client_of(order.user_id).get(f"/api/v1/orders/{order.id}/shipments")
    [shown] = answer.json()["results"]
    assert answer.json()["next"] is None
    assert shown["items"] == [{"sku": order.items[0].sku, "quantity": 2}]
    assert (shown["shipment_id"], shown["carrier"], shown["number"]) == (shipment.shipment_id, "sandbox", None)
    assert shown["status"] == "delivered"
    assert shown["track"][-1] == {"at": "2026-11-22T15:00:00Z", "status": "delivered", "place": "Place 3"}
    assert [step["place"] for step in shown["track"]] == ["Place 0", "Place 1", "Place 2", "Place 3"]


@pytest.mark.parametrize("order_of_arrival", list(permutations(range(3))))
def test_events_in_any_order_and_twice_end_the_same(order_of_arrival):
    order = paid_order()
    shipment = booked(order)
    at = datetime(2026, 11, 22, 12, tzinfo=UTC)
    events = [
        track_event(shipment.shipment_id, status, at=at + timedelta(hours=hour))
        for hour, status in enumerate(["handed_over", "in_transit", "exception"])
    ]

    for number in order_of_arrival:
        assert deliver(*events[number])
        version = reload(order).version
        assert not deliver(*events[number])
        assert reload(order).version == version

    assert get_shipment(order.id, 1).status == "exception"
    assert statuses(order) == ("shipped", "shipped")
    assert [step.status for step in get_shipment(order.id, 1).track] == ["handed_over", "in_transit", "exception"]


def test_the_first_word_may_be_that_it_has_arrived():
    order = paid_order()
    assert deliver(*track_event(booked(order).shipment_id, "delivered"))
    assert statuses(order) == ("completed", "delivered")
    shipment = get_shipment(order.id, 1)
    assert shipment.handed_over_at == shipment.delivered_at is not None
    assert deliver(*track_event(shipment.shipment_id, "exception"))
    assert get_shipment(order.id, 1).status == "delivered"
    assert [kind for _, kind in event_versions(order.id)[-2:]] == ["completed", "shipment_updated"]


@pytest.mark.parametrize("round_", range(2))
def test_one_event_sent_many_times_at_once_is_stored_once(round_):
    order = paid_order(shard=round_)
    event = track_event(booked(order).shipment_id, "in_transit")
    barrier = Barrier(6)

    def run(_):
        barrier.wait()
        try:
            return deliver(*event)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(run, range(6))) == [False] * 5 + [True]
    assert event_versions(order.id)[-1] == (5, "shipped")


def test_the_primary_key_knows_a_repeat_also_where_the_look_does_not(monkeypatch):
    order = paid_order()
    event = track_event(booked(order).shipment_id, "in_transit")
    assert deliver(*event)
    version = reload(order).version
    monkeypatch.setattr(tracking, "event_was_seen", lambda events, notice: False)
    assert not deliver(*event)
    assert reload(order).version == version


def test_without_the_stored_event_a_repeat_would_be_taken_for_news():
    """Negative control: what makes a repeat known is the row, not luck."""
    order = paid_order()
    event = track_event(booked(order).shipment_id, "in_transit")
    deliver(*event)
    Track.objects.for_order(order.id).filter(order_id=order.id).delete()
    assert deliver(*event)


def test_a_bad_or_stale_signature_is_refused_and_nothing_is_stored():
    order = paid_order()
    shipment = booked(order)
    body, headers = track_event(shipment.shipment_id, "delivered")
    now_s = timezone.now().timestamp()
    stale = track_event(shipment.shipment_id, "delivered", signed_at_s=now_s - 301)
    early = track_event(shipment.shipment_id, "delivered", signed_at_s=now_s + 302)
    forged = track_event(shipment.shipment_id, "delivered", secret="x" * 40)
    for bad_body, bad_headers in [(body + b" ", headers), stale, early, forged, (body, {})]:
        answer = call_back(bad_body, bad_headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "signature_invalid")
        with pytest.raises(SignatureInvalid):
            deliver(bad_body, bad_headers)
    assert get_shipment(order.id, 1).track == ()
    assert statuses(order) == ("fulfilling", "partial")


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "lost"},
        {"status": "prepared"},
        {"at": "yesterday"},
        {"at": "2026-11-22T12:00:00"},
        {"at": "0001-01-01T00:00:00+14:00"},
        {"at": "2126-01-01T00:00:00Z"},
        {"event_id": ""},
        {"event_id": "x" * 129},
        {"place": "x" * 101},
        {"place": "\ud800"},
        {"parcel": None},
    ],
    ids=str,
)
def test_a_signed_body_that_means_nothing_is_refused(changes):
    order = paid_order()
    fields = {"status": "delivered", **changes}
    with pytest.raises(CallbackMalformed):
        deliver(*track_event(booked(order).shipment_id, fields.pop("status"), **fields))


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"null", b'{"parcel": 1}', b"[" * 60_000], ids=len)
def test_a_signed_body_that_is_no_event_is_refused(body):
    headers = {SIGNATURE_HEADER: signature_header(secret=SECRET, body=body, at_s=int(timezone.now().timestamp()))}
    answer = call_back(body, headers, content_type="text/plain")
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


def test_an_event_of_an_unknown_shipment_or_carrier_is_not_found():
    order = paid_order()
    mine = prepare(order)
    for reference in ("shp_1_1", "", "pay_1_1", f"shp_{order.id}_2", mine.shipment_id):
        with pytest.raises(ShipmentNotFound):
            deliver(*track_event(reference, "delivered"))
    answer = call_back(*track_event(mine.shipment_id, "delivered"), carrier="nobody")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    with pytest.raises(ShipmentNotFound):
        prepare(paid_order(), carrier="nobody")


def test_a_cancelled_shipment_that_moves_is_told_to_the_staff(caplog):
    order = paid_order()
    shipment = booked(order)
    cancel_shipment(order_id=order.id, n=1, reason="", actor=BOB, now=timezone.now())
    alerts = metrics.CARRIER_ALERTS.labels("sandbox", "cancelled_shipment_moves")
    before = alerts._value.get()
    assert deliver(*track_event(shipment.shipment_id, "in_transit"))
    assert alerts._value.get() == before + 1
    assert shipment.shipment_id in caplog.text
    assert statuses(order) == ("fulfilling", "partial")


def test_shipments_and_receipt_over_http():
    order = paid_order()
    owner, stranger = client_of(order.user_id), client_of(make_buyer().user_id)
    shipments, receipt = (f"/api/v1/orders/{order.id}/{name}" for name in ("shipments", "confirm-receipt"))

    assert owner.get(shipments).json() == {"results": [], "next": None}
    assert stranger.get(shipments).status_code == 404
    assert owner.get("/api/v1/orders/x/shipments").status_code == 404
    refused = owner.post(receipt, {}, format="json")
    assert (refused.status_code, refused.json()["code"]) == (409, "invalid_state")
    deliver(*track_event(booked(order).shipment_id, "in_transit"))
    assert stranger.post(receipt).status_code == 404
    unknown = owner.post(receipt, {"note": "x"}, format="json")
    assert (unknown.status_code, unknown.json()["code"]) == (400, "validation_error")

    confirmed = owner.post(receipt)
    again = owner.post(receipt, {}, format="json")
    keyed = [owner.post(receipt, {}, format="json", headers={"Idempotency-Key": "k"}) for _ in range(2)]

    assert (confirmed.status_code, confirmed.json()["status"]) == (200, "completed")
    assert [json.loads(answer.content) for answer in (again, *keyed)] == [confirmed.json()] * 3
    assert keyed[1].headers["Idempotency-Replayed"] == "true"
    assert owner.post(f"/api/v1/orders/{order.id}/cancel").status_code == 409
