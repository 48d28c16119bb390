"""How long a session of the staff lasts, and when the second factor is asked for again."""

import pytest
from django.conf import settings
from django.test import Client
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice

from infra.staff.models import StaffAction
from tests.factories.orders import make_buyer, make_sku, placed_order
from tests.factories.staff import age_session, logged_in, make_superuser

pytestmark = [
    pytest.mark.django_db(databases=list(settings.DATABASES)),
    pytest.mark.usefixtures("staff_site"),
]


def is_inside(client: Client) -> bool:
    return client.get("/admin/orders/").status_code == 200


def code_of(client: Client) -> str:
    return f"{totp(TOTPDevice.objects.get(user_id=client.session['_auth_user_id']).bin_key):06d}"


def test_a_session_ends_when_it_was_left_alone(staff):
    assert is_inside(staff)
    age_session(staff, seen=settings.STAFF_SESSION_IDLE_S - 30)
    assert is_inside(staff)
    age_session(staff, seen=settings.STAFF_SESSION_IDLE_S + 1)
    answer = staff.get("/admin/orders/?status=paid")
    assert answer.headers["Location"] == "/admin/login/?next=%2Fadmin%2Forders%2F%3Fstatus%3Dpaid"
    assert not is_inside(staff)


def test_a_session_ends_after_its_time_however_busy_it_is(staff):
    assert is_inside(staff)
    age_session(staff, begun=settings.STAFF_SESSION_LIFETIME_S + 1)
    assert not is_inside(staff)


def test_personal_data_asks_for_a_fresh_second_factor_and_a_reason(staff):
    # given an order, and a second factor that was shown a while ago
    order = placed_order(make_buyer(), [(make_sku(), 1)])
    path = f"/admin/orders/{order.id}/person/"
    assert is_inside(staff)
    age_session(staff, proved=settings.STAFF_STEP_UP_S + 1)

    # then nothing is shown before it is shown anew
    asked = staff.post(path, {"reason": "they called"})
    assert asked.headers["Location"] == f"/admin/step-up/?next=%2Fadmin%2Forders%2F{order.id}%2Fperson%2F"
    wrong = staff.post("/admin/step-up/", {"otp_token": "000000x", "next": path})
    assert wrong.status_code == 200
    TOTPDevice.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)
    right = staff.post("/admin/step-up/", {"otp_token": code_of(staff), "next": path})
    assert right.headers["Location"] == path

    # and then only for a reason, which is kept
    assert order.address["postcode"] not in staff.get(path).content.decode()
    assert order.address["postcode"] not in staff.post(path, {"reason": ""}).content.decode()
    shown = staff.post(path, {"reason": "they called"})
    assert order.address["postcode"] in shown.content.decode()
    assert "no-store" in shown.headers["Cache-Control"]
    kept = StaffAction.objects.get(target=f"order:{order.id}")
    assert (kept.kind, kept.reason, kept.staff_name) == ("order.unmask", "they called", "mia")


@pytest.mark.parametrize("wanted", ["https://evil.example/", "//evil.example/", "/metrics", "javascript:x", ""])
def test_the_second_factor_leads_nowhere_else(wanted):
    client = logged_in(make_superuser())
    answer = client.post("/admin/step-up/", {"otp_token": code_of(client), "next": wanted})
    assert answer.headers["Location"] == "/admin/"
