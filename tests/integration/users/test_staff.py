"""The staff's side: a second factor, roles, customers shown masked; no shopper comes in."""

from io import StringIO
from urllib.parse import parse_qs, urlsplit

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import Client
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice

from apps.users.models import CustomerState, StaffUser
from apps.users.selectors import find_user_id, get_customer
from apps.users.services.staff import Role, StaffCredentials, make_staff
from infra.staff.models import StaffAction
from tests.factories.staff import confirm, half_logged_in
from tests.factories.users import PASSWORD, logged_in, make_address, make_customer, new_username, registered

pytestmark = [
    pytest.mark.django_db(databases=list(settings.DATABASES)),
    pytest.mark.usefixtures("staff_site"),
]


def code_of(credentials: StaffCredentials) -> str:
    device = TOTPDevice.objects.get(user__username=credentials.username)
    return f"{totp(device.bin_key):06d}"


def log_in_to_admin(username: str, password: str, code: str) -> Client:
    client = Client()
    client.post("/admin/login/", {"username": username, "password": password, "otp_token": code, "next": "/admin/"})
    return client


def staff_client(role: Role) -> Client:
    credentials = make_staff(username=f"staff-{role}", role=role)
    return log_in_to_admin(credentials.username, credentials.password, code_of(credentials))


def is_inside(client: Client) -> bool:
    return client.get("/admin/").status_code == 200


def test_a_staff_account_enters_with_both_factors_only() -> None:
    credentials = make_staff(username="operator", role=Role.SUPPORT)
    code = code_of(credentials)
    wrong_code = f"{(int(code) + 1) % 10**6:06d}"
    assert not is_inside(log_in_to_admin("operator", credentials.password, ""))
    assert not is_inside(log_in_to_admin("operator", "wrong", code))
    assert not is_inside(log_in_to_admin("operator", credentials.password, wrong_code))
    TOTPDevice.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)
    assert is_inside(log_in_to_admin("operator", credentials.password, code))


def test_a_session_without_the_second_factor_is_sent_away() -> None:
    credentials = make_staff(username="operator", role=Role.ADMIN)
    client = half_logged_in(StaffUser.objects.get(username=credentials.username))
    for path in ("/admin/", "/admin/customers/", f"/admin/customers/{make_customer().user_id}/"):
        assert client.get(path).status_code == 302


def test_a_shopper_can_never_enter_the_admin() -> None:
    # given a shopper who is logged in
    username = new_username()
    registered(username)
    pair = logged_in(username)
    # then neither their password nor their token opens the admin
    assert not is_inside(log_in_to_admin(username.value, PASSWORD, "123456"))
    client = Client(headers={"Authorization": f"Bearer {pair.access}"})
    assert not is_inside(client)
    # not even with the number of a staff account as their user id
    make_staff(username="operator", role=Role.ADMIN)
    customer_id = find_user_id(username)
    assert not StaffUser.objects.filter(id=customer_id).exists()


def test_the_command_prints_credentials_that_work_once() -> None:
    out = StringIO()
    call_command("make_staff", "operator", "--role", "operations", stdout=out)
    lines = out.getvalue().splitlines()
    password = next(line for line in lines if line.startswith("password: ")).removeprefix("password: ")
    secret = parse_qs(urlsplit(lines[-1]).query)["secret"][0]
    assert lines[-1].startswith("otpauth://totp/")
    assert secret not in lines[:-1]
    credentials = StaffCredentials("operator", password, lines[-1])
    assert is_inside(log_in_to_admin("operator", password, code_of(credentials)))
    with pytest.raises(CommandError):
        call_command("make_staff", "operator", stdout=StringIO())
    call_command("make_staff", "operator", "--reset", stdout=StringIO())
    assert not is_inside(log_in_to_admin("operator", password, code_of(credentials)))


@pytest.mark.parametrize("shard", [0, 1])
def test_a_customer_is_found_by_number_or_login_and_shown_masked(shard: int) -> None:
    client = staff_client(Role.SUPPORT)
    customer = make_customer(shard=shard, email="ada@example.org", phone="+441632960961", display_name="Ada Lovelace")
    make_address(customer.user_id)
    username = new_username()
    registered(username)
    for wanted, user_id in ((str(customer.user_id), customer.user_id), (username.value, find_user_id(username))):
        found = client.get("/admin/customers/", {"wanted": wanted})
        assert found.headers["Location"] == f"/admin/customers/{user_id}/"
    page = client.get(f"/admin/customers/{customer.user_id}/").content.decode()
    assert "a***@example.org" in page
    assert "+44***61" in page
    for secret in ("ada@example.org", "+441632960961", "Lovelace", "St James", "SW1Y"):
        assert secret not in page


@pytest.mark.parametrize("wanted", ["nobody", "1", "9" * 30, "a b", "\u3164"])
def test_who_is_not_there_is_not_found(wanted: str) -> None:
    client = staff_client(Role.SUPPORT)
    answer = client.get("/admin/customers/", {"wanted": wanted})
    assert "There is no such customer." in answer.content.decode()
    for number in (1, 2**63, 10**30):
        assert client.get(f"/admin/customers/{number}/").status_code == 404


def test_a_customer_is_blocked_with_a_reason_that_is_kept() -> None:
    client, customer = staff_client(Role.OPERATIONS), make_customer()
    path = f"/admin/customers/{customer.user_id}/"
    confirm(client, f"{path}do/block/", reason="")
    assert get_customer(customer.user_id).state == CustomerState.LIVE
    confirm(client, f"{path}do/block/", reason="stolen card")
    assert get_customer(customer.user_id).state == CustomerState.BLOCKED
    kept = StaffAction.objects.get(target=f"customer:{customer.user_id}")
    assert (kept.kind, kept.reason) == ("customer.block", "stolen card")
    confirm(client, f"{path}do/unblock/", reason="a mistake")
    assert get_customer(customer.user_id).state == CustomerState.LIVE


def test_the_support_may_look_but_not_block() -> None:
    client, customer = staff_client(Role.SUPPORT), make_customer()
    answer = client.post(f"/admin/customers/{customer.user_id}/do/block/", {"reason": "why not"})
    assert answer.status_code == 403
    assert get_customer(customer.user_id).state == CustomerState.LIVE


def test_the_sessions_of_a_customer_are_ended_by_the_staff() -> None:
    client, username = staff_client(Role.OPERATIONS), new_username()
    user_id = registered(username)
    logged_in(username)
    path = f"/admin/customers/{user_id}/"
    assert "Not logged in" not in client.get(path).content.decode()
    confirm(client, f"{path}do/end-sessions/")
    assert "Not logged in" in client.get(path).content.decode()
    assert client.get(f"{path}do/nonsense/").status_code == 404


def test_personal_data_is_shown_for_a_reason_that_is_kept() -> None:
    client = staff_client(Role.SUPPORT)
    customer = make_customer(email="ada@example.org", display_name="Ada Lovelace")
    path = f"/admin/customers/{customer.user_id}/person/"
    assert "ada@example.org" not in client.get(path).content.decode()
    assert "ada@example.org" not in client.post(path, {"reason": ""}).content.decode()
    assert "ada@example.org" in client.post(path, {"reason": "they called"}).content.decode()
    assert StaffAction.objects.get(target=f"customer:{customer.user_id}").reason == "they called"
