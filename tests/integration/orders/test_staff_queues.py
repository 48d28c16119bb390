"""The work queues: what needs a person is there by itself, taken by one, settled with a reason, and gone."""

import pytest
from django.conf import settings
from django.utils import timezone

from apps.orders.services.holds import hold_order
from apps.orders.staff import work
from apps.payments.models import Callback
from infra.events import consumers
from infra.events.consumers import Subscription
from infra.events.deadletters import bury
from infra.events.models import DeadLetter
from infra.followups.models import FollowUpRow
from infra.followups.services import schedule
from infra.sharding.places import place_of_order
from infra.staff.models import QueueOwner, StaffAction
from tests.factories.events import envelope as make_envelope
from tests.factories.events import order_on
from tests.factories.orders import make_buyer, make_sku, placed_order
from tests.factories.staff import logged_in, make_superuser

pytestmark = [
    pytest.mark.django_db(databases=list(settings.DATABASES)),
    pytest.mark.usefixtures("staff_site"),
]


@pytest.fixture
def order():
    return placed_order(make_buyer(), [(make_sku(), 1)])


def send(client, queue, item, do, reason="looked into"):
    page = client.get(f"/admin/queues/{queue}/").content.decode()
    token = page.split('name="token" value="')[1][:32]
    asked = {"item": item, "do": do, "reason": reason, "token": token}
    return client.post(f"/admin/queues/{queue}/", asked, follow=True).content.decode()


def contradicting_callback(order) -> str:
    place = place_of_order(order.id)
    Callback(
        slot=place.slot,
        provider="sandbox",
        account="floodgate",
        event_id="evt|1",
        order_id=order.id,
        reference=f"pay_{order.id}_1",
        raw_body=b"",
        result="contradiction",
        alert=True,
        received_at=timezone.now(),
    ).save(using=place.alias, force_insert=True)
    return f"{order.id}|sandbox|floodgate|evt|1"


def test_a_contradicting_callback_is_taken_by_one_and_settled_with_a_reason(staff, order):
    item = contradicting_callback(order)
    assert "evt|1" in staff.get("/admin/queues/callbacks/").content.decode()
    send(staff, "callbacks", item, "take")
    assert "mia was quicker" in send(logged_in(make_superuser("cyd")), "callbacks", item, "take")
    assert QueueOwner.objects.get(item=item).staff_name == "mia"

    assert "Give the reason" in send(staff, "callbacks", item, "settle", reason="")
    assert Callback.objects.at(place_of_order(order.id)).get(order_id=order.id).alert
    assert "It is settled" in send(staff, "callbacks", item, "settle")
    assert not Callback.objects.at(place_of_order(order.id)).get(order_id=order.id).alert
    assert not QueueOwner.objects.exists()
    assert StaffAction.objects.get(kind="queue.callbacks.settle").reason == "looked into"
    assert "Nothing to do here" in staff.get("/admin/queues/callbacks/").content.decode()


def test_what_keeps_failing_is_tried_at_once(staff, order):
    place, now = place_of_order(order.id), timezone.now()
    with place.atomic():
        schedule(place, kind="stock", order_id=order.id, due_at=now, now=now)
    rows = FollowUpRow.objects.at(place).filter(order_id=order.id)
    assert "Nothing to do" in staff.get("/admin/queues/followups/").content.decode()
    rows.update(attempt_count=9, last_error="StockMismatch")
    assert "StockMismatch" in staff.get("/admin/queues/followups/").content.decode()
    assert "tried again" in send(staff, "followups", f"{order.id}|stock|0", "retry")
    assert rows.get().attempt_count == 0


def test_a_dead_letter_is_given_again(staff, monkeypatch):
    taken = []
    monkeypatch.setitem(consumers._subscriptions, "broken", Subscription("broken", frozenset(), taken.append))
    envelope = make_envelope(order_on("shard_1"), 1)
    bury("broken", envelope, error="ValueError: odd", attempt_count=5, now=timezone.now())
    assert "ValueError: odd" in staff.get("/admin/queues/dead-letters/").content.decode()
    item = f"{envelope.slot}|broken|{envelope.aggregate}|{envelope.aggregate_id}"
    assert "1 events were taken" in send(staff, "dead-letters", item, "retry")
    assert [each.event_id for [each] in taken] == [envelope.event_id]
    assert not DeadLetter.objects.using("shard_1").filter(group_name="broken").exists()


def test_held_orders_and_outboxes_that_stand_still_are_there(staff, order, monkeypatch):
    hold_order(order_id=order.id, reason="three cards", staff_id=1, staff_name="mia", now=timezone.now())
    assert "three cards" in staff.get("/admin/queues/held-orders/").content.decode()
    monkeypatch.setattr(work, "_STUCK_S", -60)
    assert place_of_order(order.id).alias in staff.get("/admin/queues/outbox/").content.decode()
    page = staff.get("/admin/queues/").content.decode()
    assert "Orders held back" in page
    assert "floodgate_outbox_depth" in page


@pytest.mark.parametrize("item", ["", "x", "1|2", "é", "1|broken|order|x" * 20])
def test_an_item_that_is_none_is_refused(staff, order, item):
    contradicting_callback(order)
    for queue, do in (("callbacks", "settle"), ("callbacks", "nonsense")):
        page = send(staff, queue, item, do)
        assert "errornote" in page or "no such" in page or "missing" in page or "Give the reason" in page
    assert staff.get("/admin/queues/nonsense/").status_code == 404
