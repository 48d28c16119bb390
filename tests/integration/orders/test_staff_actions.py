"""What the staff do to an order: asked twice, once, on the order that they looked at, with a reason that is kept."""

import pytest
from django.conf import settings
from django.db import connections
from django.utils import timezone

from apps.orders.errors import AddressNotCorrectable, OrderHeld, OrderMovedOn, OrderNotHoldable
from apps.orders.models import OrderHold
from apps.orders.selectors import find_order, get_placed_order, staff_events
from apps.orders.services.address import correct_address
from apps.orders.services.cancellation import cancel_order_as_staff
from apps.orders.services.holds import hold_of, hold_order, release_hold, require_not_held
from apps.orders.services.notes import forget_staff_words, notes_of, tags_of
from apps.orders.services.shipping import hand_over, start_fulfilling
from infra.sharding.places import place_of_order
from infra.staff.models import Outcome, StaffAction
from tests.factories.orders import make_buyer, make_sku, placed_order
from tests.factories.shipping import paid_order, prepare, reload
from tests.factories.staff import confirm

pytestmark = [
    pytest.mark.django_db(databases=list(settings.DATABASES)),
    pytest.mark.usefixtures("staff_site"),
]


@pytest.fixture
def order():
    return placed_order(make_buyer(), [(make_sku(), 1)])


def path_of(order, action: str) -> str:
    return f"/admin/orders/{order.id}/do/{action}/"


def status_of(order) -> str:
    return find_order(order.id).status


def cancel(order, **changes):
    given = {"order_id": order.id, "reason": "", "actor": "staff:1", "now": timezone.now(), **changes}
    return cancel_order_as_staff(**given)


def test_an_order_is_cancelled_once_it_is_confirmed_with_a_reason(staff, order):
    asked = staff.get(path_of(order, "cancel"))
    assert "cannot be undone" in asked.content.decode()
    assert staff.post(path_of(order, "cancel"), {"reason": "", "version": 1}).status_code == 200
    assert status_of(order) == "pending_payment"

    assert confirm(staff, path_of(order, "cancel"), reason="wrong size").status_code == 302
    assert status_of(order) == "cancelled"
    event = staff_events(order.id)[-1]
    assert event.actor.startswith("staff:")
    kept = StaffAction.objects.get(target=f"order:{order.id}")
    assert (kept.kind, kept.reason, kept.outcome) == ("order.cancel", "wrong size", Outcome.DONE)
    page = staff.get(f"/admin/orders/{order.id}/").content.decode()
    assert "wrong size" in page
    assert path_of(order, "cancel") not in page


def test_a_double_click_does_its_work_once(staff, order):
    shown = staff.get(path_of(order, "hold")).context
    asked = {"token": shown["token"], "reason": "odd", "version": 1}
    assert staff.post(path_of(order, "hold"), asked).status_code == 302
    release_hold(order_id=order.id)
    again = staff.post(path_of(order, "hold"), asked, follow=True)
    assert "sent before" in again.content.decode()
    assert hold_of(order.id) is None
    assert StaffAction.objects.filter(target=f"order:{order.id}").count() == 1


def test_a_stale_tab_is_refused_and_told_what_changed(staff, order):
    # given a page that was opened before the address was corrected
    shown = staff.get(path_of(order, "cancel")).context
    correct_address(order_id=order.id, changes={"city": "Paris"}, actor="staff:9", now=timezone.now())

    # then what it asks is not done, and it tells what has happened meanwhile
    late = staff.post(path_of(order, "cancel"), {"token": shown["token"], "reason": "x", "version": 1})
    assert late.status_code == 409
    assert "address corrected" in late.content.decode()
    assert status_of(order) == "pending_payment"

    # and the page that it answers with is up to date
    asked = {"token": late.context["token"], "reason": "x", "version": late.context["order"].version}
    assert staff.post(path_of(order, "cancel"), asked).status_code == 302
    assert status_of(order) == "cancelled"


def test_an_order_that_moves_under_the_form_is_not_touched(order):
    with pytest.raises(OrderMovedOn):
        cancel(order, version=2)
    assert cancel(order, version=1).status == "cancelled"


@pytest.mark.parametrize("token", ["", "x", "0" * 31, "g" * 32])
def test_a_form_without_its_token_is_asked_again(staff, order, token):
    answer = staff.post(path_of(order, "cancel"), {"token": token, "reason": "x", "version": 1})
    assert answer.status_code == 200
    assert status_of(order) == "pending_payment"


def test_what_the_state_no_longer_allows_is_told(staff, order):
    cancel(order)
    answer = staff.get(path_of(order, "cancel"), follow=True)
    assert "can no longer be done" in answer.content.decode()
    assert staff.get(path_of(order, "nonsense")).status_code == 404


def test_a_hold_stops_what_asks_for_it_until_it_is_let_go(staff, order):
    confirm(staff, path_of(order, "hold"), reason="three cards")
    place = place_of_order(order.id)
    with place.atomic(), pytest.raises(OrderHeld):
        require_not_held(place, order.id)
    page = staff.get(f"/admin/orders/{order.id}/").content.decode()
    assert "three cards" in page
    assert path_of(order, "hold") not in page
    stored = OrderHold.objects.at(place).extra(select={"raw": "reason"}).get(order_id=order.id)
    assert "three cards" not in stored.raw

    confirm(staff, path_of(order, "release"))
    with place.atomic():
        require_not_held(place, order.id)
    assert find_order(order.id).version == 1  # no shopper's client sees it


def test_what_has_ended_cannot_be_held(order):
    cancel(order)
    with pytest.raises(OrderNotHoldable):
        hold_order(order_id=order.id, reason="", staff_id=1, staff_name="mia", now=timezone.now())


def test_a_hold_waits_for_who_has_the_order_s_row(order, monkeypatch):
    # given somebody who ships the order: the lock of its row is taken before the guard is asked
    place = place_of_order(order.id)
    statements: list[str] = []
    with connections[place.alias].execute_wrapper(
        lambda execute, sql, *rest: (statements.append(sql), execute(sql, *rest))[1]
    ):
        hold_order(order_id=order.id, reason="", staff_id=1, staff_name="mia", now=timezone.now())
    locks = [number for number, sql in enumerate(statements) if "FOR UPDATE" in sql and "orders_order" in sql]
    looks = [number for number, sql in enumerate(statements) if "orders_hold" in sql]
    assert locks
    assert locks[0] < looks[0]


def test_an_address_is_corrected_in_parts_and_the_first_answer_stays(staff, order):
    page = staff.get(path_of(order, "correct-address")).content.decode()
    assert order.address["line1"] not in page
    confirm(staff, path_of(order, "correct-address"), line1="1 New Road", city="Leeds")
    row = find_order(order.id)
    assert row.address == {**order.address, "line1": "1 New Road", "city": "Leeds"}
    assert row.city == "Leeds"
    assert (row.version, staff_events(order.id)[-1].kind) == (2, "address_corrected")
    assert "New Road" not in staff_events(order.id)[-1].detail
    # a repeat of the request that placed it still gets the answer that it got
    assert get_placed_order(order_id=order.id) == order
    confirm(staff, path_of(order, "correct-address"), city="York")
    assert get_placed_order(order_id=order.id) == order


@pytest.mark.parametrize("changes", [{}, {"phone": "12"}, {"phone": "abc"}, {"city": "x" * 101}])
def test_an_address_that_makes_no_sense_is_refused(staff, order, changes):
    assert confirm(staff, path_of(order, "correct-address"), **changes).status_code == 200
    assert find_order(order.id).version == 1


def test_the_address_of_what_is_closed_stays(order):
    cancel(order)
    with pytest.raises(AddressNotCorrectable):
        correct_address(order_id=order.id, changes={"city": "Leeds"}, actor="staff:1", now=timezone.now())
    with pytest.raises(ValueError, match="country"):
        correct_address(order_id=order.id, changes={"country": "FR"}, actor="staff:1", now=timezone.now())


def send_note(staff, order, **asked):
    token = staff.get(f"/admin/orders/{order.id}/").context["token"]
    return staff.post(f"/admin/orders/{order.id}/note/", {"token": token, **asked}, follow=True)


def test_notes_and_tags_are_the_staff_s_own(staff, order):
    send_note(staff, order, text="Called, will call back.")
    send_note(staff, order, text="Called back.")
    send_note(staff, order, tag=" VIP  Buyer ")
    send_note(staff, order, tag="vip buyer")
    assert [(note.n, note.text) for note in notes_of(order.id)] == [(2, "Called back."), (1, "Called, will call back.")]
    assert tags_of(order.id) == ["vip buyer"]
    assert find_order(order.id).version == 1
    found = staff.get("/admin/orders/", {"wanted": "#VIP buyer"}).content.decode()
    assert str(order.id) in found
    send_note(staff, order, remove="vip buyer")
    assert tags_of(order.id) == []
    assert "characters" in send_note(staff, order, tag="x" * 32 + "\u3164").content.decode() or tags_of(order.id) == []
    assert staff.get(f"/admin/orders/{order.id}/note/").status_code == 405


def test_what_is_held_is_not_shipped_and_its_money_not_captured():
    order = paid_order((2,))
    hold_order(order_id=order.id, reason="odd", staff_id=1, staff_name="mia", now=timezone.now())
    version = reload(order).version
    for ship in (prepare, lambda order: start_fulfilling(order_id=order.id, actor="staff:1", now=timezone.now())):
        with pytest.raises(OrderHeld):
            ship(order)
    assert reload(order).version == version
    release_hold(order_id=order.id)
    shipment = prepare(order)
    hold_order(order_id=order.id, reason="odd", staff_id=1, staff_name="mia", now=timezone.now())
    with pytest.raises(OrderHeld):
        hand_over(order_id=order.id, n=shipment.n, carrier="hermes", number="H-1", actor="staff:1", now=timezone.now())


def test_an_account_that_is_deleted_takes_the_staff_s_words_with_it(staff, order):
    send_note(staff, order, text="Called.")
    correct_address(order_id=order.id, changes={"city": "Leeds"}, actor="staff:1", now=timezone.now())
    forget_staff_words(place_of_order(order.id), [order.id])
    assert notes_of(order.id) == []
    assert get_placed_order(order_id=order.id).address["city"] == "Leeds"
