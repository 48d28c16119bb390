"""The contract of /auth and /users, played over HTTP."""

from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone
from rest_framework.test import APIClient

from apps.users.access_tokens import sign_access_token
from apps.users.models import StaffUser
from apps.users.selectors import get_customer, last_sent_code
from apps.users.services.exports import drive_exports
from apps.users.services.sessions import new_session
from infra.idempotency.models import IdempotencyKey
from infra.sharding.places import place_of_user
from tests.factories.users import PASSWORD, make_customer, new_email, new_phone, new_username

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))

API = "/api/v1"
ADDRESS = {
    "name": "Ada Lovelace",
    "phone": "+441632960961",
    "country": "GB",
    "region": "",
    "city": "London",
    "line1": "12 St James's Square",
    "line2": "",
    "postcode": "SW1Y 4JH",
}


class Client:
    """A client of the API, perhaps with an access token."""

    def __init__(self, access: str | None = None) -> None:
        self._client = APIClient()
        self._headers = {} if access is None else {"HTTP_AUTHORIZATION": f"Bearer {access}"}

    def __call__(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        call = getattr(self._client, method)
        return call(API + path, body, format="json", **self._headers, **headers)


@pytest.fixture
def anyone() -> Client:
    return Client()


@pytest.fixture
def username(anyone: Client) -> str:
    username = new_username().value
    assert anyone("post", "/auth/register", {"username": username, "password": PASSWORD}).status_code == 201
    return username


@pytest.fixture
def pair(anyone: Client, username: str) -> dict[str, Any]:
    return anyone("post", "/auth/token", {"login": username, "password": PASSWORD}).json()


@pytest.fixture
def shopper(pair: dict[str, Any]) -> Client:
    return Client(pair["access"])


def assert_problem(response: Any, status: int, code: str, *fields: str) -> None:
    body = response.json()
    assert (response.status_code, body["code"]) == (status, code), body
    assert response.headers["Content-Type"] == "application/problem+json"
    assert [error["field"] for error in body.get("errors", [])] == list(fields)
    assert ("WWW-Authenticate" in response.headers) == (status == 401)
    assert ("Retry-After" in response.headers) == (status in (429, 503))


def test_registering_verifying_and_logging_in(anyone: Client) -> None:
    email, phone = new_email(), new_phone()
    registered = anyone("post", "/auth/register", {"email": email.value, "phone": phone.value, "password": PASSWORD})
    assert registered.status_code == 201
    assert list(registered.json()) == ["user_id"]
    for login in (email, phone):
        credentials = {"login": login.value, "password": PASSWORD}
        assert_problem(anyone("post", "/auth/token", credentials), 401, "credentials_invalid")
        verified = anyone("post", "/auth/verify", {"login": login.value, "code": last_sent_code(login)})
        assert (verified.status_code, verified.content) == (204, b"")
        answer = anyone("post", "/auth/token", credentials)
        assert answer.status_code == 200
        assert answer.json().keys() == {"access", "refresh", "expires_in"}
        assert answer.headers["Cache-Control"] == "no-store"


def test_logins_are_case_insensitive(anyone: Client, username: str) -> None:
    assert anyone("post", "/auth/token", {"login": username.upper(), "password": PASSWORD}).status_code == 200
    taken = anyone("post", "/auth/register", {"username": username.upper(), "password": PASSWORD})
    assert_problem(taken, 409, "login_taken")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["/password"]),
        ({"password": PASSWORD}, [""]),
        ({"password": "short", "username": "ada"}, ["/password"]),
        ({"password": "x" * 129, "username": "ada"}, ["/password"]),
        ({"password": PASSWORD, "username": "a b"}, ["/username"]),
        ({"password": PASSWORD, "username": 5}, ["/username"]),
        ({"password": PASSWORD, "username": None}, ["/username"]),
        ({"password": PASSWORD, "email": "ada"}, ["/email"]),
        ({"password": PASSWORD, "phone": "12345"}, ["/phone"]),
        ({"password": PASSWORD, "username": "ada", "role": "admin"}, ["/role"]),
        ({"password": PASSWORD, "username": "a\x00da"}, ["/username"]),
        ([], [""]),
    ],
)
def test_a_bad_registration_is_told_field_by_field(anyone: Client, body: object, fields: list[str]) -> None:
    assert_problem(anyone("post", "/auth/register", body), 400, "validation_error", *fields)


@pytest.mark.parametrize("code", ["12345", "1234567", "abcdef", 123456, "\u0661\u0662\u0663\u0664\u0665\u0666", ""])
def test_what_is_no_code_is_a_bad_request(anyone: Client, code: object) -> None:
    answer = anyone("post", "/auth/verify", {"login": "ada@example.org", "code": code})
    assert_problem(answer, 400, "validation_error", "/code")


@pytest.mark.parametrize("login", ["nobody@example.org", "not a login", "+1", "\u3164"])
def test_a_login_that_waits_for_no_code_is_told_like_a_wrong_code(anyone: Client, login: str) -> None:
    answer = anyone("post", "/auth/verify", {"login": login, "code": "123456"})
    assert_problem(answer, 401, "credentials_invalid")


def test_codes_of_401(anyone: Client, pair: dict[str, Any], shopper: Client) -> None:
    assert_problem(anyone("get", "/users/me"), 401, "not_authenticated")
    assert_problem(Client("nonsense")("get", "/users/me"), 401, "token_invalid")
    assert_problem(anyone("post", "/auth/token/refresh", {"refresh": "nonsense"}), 401, "token_invalid")
    second = anyone("post", "/auth/token/refresh", {"refresh": pair["refresh"]}).json()
    anyone("post", "/auth/token/refresh", {"refresh": second["refresh"]})
    assert_problem(anyone("post", "/auth/token/refresh", {"refresh": pair["refresh"]}), 401, "token_reused")
    assert_problem(shopper("get", "/users/me"), 401, "token_invalid")


def test_logging_out_is_204_whatever_the_token_is(anyone: Client, pair: dict[str, Any], shopper: Client) -> None:
    for token in (pair["refresh"], pair["refresh"], "nonsense", "", "x" * 513, "x" * 60_000, "\x00\n", "é"):
        assert anyone("post", "/auth/logout", {"refresh": token}).status_code == 204
    assert_problem(shopper("get", "/users/me"), 401, "token_invalid")


def test_devices_are_listed_and_ended(anyone: Client, username: str, shopper: Client) -> None:
    other = anyone("post", "/auth/token", {"login": username, "password": PASSWORD}, HTTP_USER_AGENT="a phone").json()
    answer = shopper("get", "/auth/sessions")
    assert answer.headers["Cache-Control"] == "no-store"
    devices = answer.json()["results"]
    assert [(device["device"], device["current"]) for device in devices] == [("a phone", False), ("", True)]
    assert shopper("delete", f"/auth/sessions/{devices[0]['id']}").status_code == 204
    assert_problem(shopper("delete", f"/auth/sessions/{devices[0]['id']}"), 404, "not_found")
    for nonsense in ("nonsense", "%C2%84", "%00", "a" * 33, devices[1]["id"].upper()):
        assert_problem(shopper("delete", f"/auth/sessions/{nonsense}"), 404, "not_found")
    assert_problem(Client(other["access"])("get", "/users/me"), 401, "token_invalid")
    third = anyone("post", "/auth/token", {"login": username, "password": PASSWORD}).json()
    assert shopper("delete", "/auth/sessions").status_code == 204
    assert_problem(Client(third["access"])("get", "/users/me"), 401, "token_invalid")
    assert shopper("get", "/users/me").status_code == 200


def test_a_profile_is_read_and_changed(shopper: Client, username: str) -> None:
    before = shopper("get", "/users/me").json()
    assert (before["username"], before["email"], before["locale"]) == (username, None, "en")
    changes = {"display_name": "Ada ✨", "locale": "en-GB", "time_zone": "Europe/London"}
    after = shopper("patch", "/users/me", changes).json()
    assert after == before | changes | {"version": before["version"] + 1, "updated_at": after["updated_at"]}
    assert shopper("patch", "/users/me", changes).json() == after
    assert shopper("patch", "/users/me", {}).json() == after


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"username": "root"}, "/username"),
        ({"email": "a@example.org"}, "/email"),
        ({"locale": "english"}, "/locale"),
        ({"time_zone": "Mars"}, "/time_zone"),
        ({"display_name": "x" * 101}, "/display_name"),
        ({"display_name": None}, "/display_name"),
    ],
)
def test_a_bad_change_of_the_profile_is_refused(shopper: Client, body: dict[str, object], field: str) -> None:
    assert_problem(shopper("patch", "/users/me", body), 400, "validation_error", field)


def test_addresses_are_made_read_replaced_and_deleted(shopper: Client) -> None:
    made = shopper("post", "/users/me/addresses", ADDRESS)
    assert made.status_code == 201
    address_id = made.json()["id"]
    assert made.headers["Location"] == f"{API}/users/me/addresses/{address_id}"
    path = f"/users/me/addresses/{address_id}"
    assert {name: shopper("get", path).json()[name] for name in ADDRESS} == ADDRESS
    replaced = shopper("put", path, ADDRESS | {"city": "Bath"})
    assert (replaced.status_code, replaced.json()["city"]) == (200, "Bath")
    assert [address["id"] for address in shopper("get", "/users/me/addresses").json()["results"]] == [address_id]
    assert shopper("delete", path).status_code == 204
    for method in ("get", "delete"):
        assert_problem(shopper(method, path), 404, "not_found")
    assert_problem(shopper("put", path, ADDRESS), 404, "not_found")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"country": "ZZ"}, "/country"),
        ({"country": "gb"}, "/country"),
        ({"phone": "123"}, "/phone"),
        ({"name": ""}, "/name"),
        ({"city": "x" * 101}, "/city"),
        ({"line1": 5}, "/line1"),
        ({"planet": "Earth"}, "/planet"),
    ],
)
def test_a_bad_address_is_refused(shopper: Client, change: dict[str, object], field: str) -> None:
    assert_problem(shopper("post", "/users/me/addresses", ADDRESS | change), 400, "validation_error", field)


@pytest.mark.parametrize("address_id", ["0", "-1", "x", "9223372036854775808", "12345678901234567890123"])
def test_what_is_no_address_id_is_not_found(shopper: Client, address_id: str) -> None:
    assert_problem(shopper("get", f"/users/me/addresses/{address_id}"), 404, "not_found")


def test_another_shoppers_address_is_not_found(anyone: Client, shopper: Client) -> None:
    path = f"/users/me/addresses/{shopper('post', '/users/me/addresses', ADDRESS).json()['id']}"
    other = new_username().value
    anyone("post", "/auth/register", {"username": other, "password": PASSWORD})
    thief = Client(anyone("post", "/auth/token", {"login": other, "password": PASSWORD}).json()["access"])
    for method in ("get", "delete"):
        assert_problem(thief(method, path), 404, "not_found")
    assert_problem(thief("put", path, ADDRESS), 404, "not_found")


def test_a_repeated_address_with_its_key_is_made_once(shopper: Client) -> None:
    made, repeated = (shopper("post", "/users/me/addresses", ADDRESS, HTTP_IDEMPOTENCY_KEY="key-1") for _ in range(2))
    assert (made.json(), made.headers["Location"]) == (repeated.json(), repeated.headers["Location"])
    assert repeated.headers["Idempotency-Replayed"] == "true"
    assert len(shopper("get", "/users/me/addresses").json()["results"]) == 1
    other = shopper("post", "/users/me/addresses", ADDRESS | {"city": "Bath"}, HTTP_IDEMPOTENCY_KEY="key-1")
    assert_problem(other, 409, "idempotency_key_reused")


def test_the_stored_answer_of_a_key_is_encrypted(shopper: Client) -> None:
    shopper("post", "/users/me/addresses", ADDRESS, HTTP_IDEMPOTENCY_KEY="key-1")
    user_id = int(shopper("get", "/users/me").json()["id"])
    stored = bytes(IdempotencyKey.objects.for_user(user_id).get(user_id=user_id).body)
    assert stored
    assert b"Lovelace" not in stored


def test_a_51st_address_is_refused(shopper: Client, settings) -> None:
    settings.MAX_ADDRESSES = 2
    for _ in range(2):
        assert shopper("post", "/users/me/addresses", ADDRESS).status_code == 201
    assert_problem(shopper("post", "/users/me/addresses", ADDRESS), 409, "limit_reached")


def test_a_password_is_changed_once_for_each_key(anyone: Client, username: str, shopper: Client) -> None:
    body = {"current_password": PASSWORD, "new_password": "another password"}
    wrong = shopper("post", "/users/me/password", body | {"current_password": "wrong"})
    assert_problem(wrong, 401, "credentials_invalid")
    short = shopper("post", "/users/me/password", body | {"new_password": "short"})
    assert_problem(short, 400, "validation_error", "/new_password")
    for _ in range(2):
        assert shopper("post", "/users/me/password", body, HTTP_IDEMPOTENCY_KEY="key-1").status_code == 204
    assert_problem(shopper("post", "/users/me/password", body), 401, "credentials_invalid")
    assert_problem(anyone("post", "/auth/token", {"login": username, "password": PASSWORD}), 401, "credentials_invalid")
    assert anyone("post", "/auth/token", {"login": username, "password": "another password"}).status_code == 200


def test_a_staff_account_is_no_shopper_and_a_shopper_no_staff(anyone: Client, username: str, shopper: Client) -> None:
    # given a staff account with the same name and password as a shopper would have
    StaffUser.objects.create_user("operator", password=PASSWORD, is_staff=True)
    # then it has no tokens
    answer = anyone("post", "/auth/token", {"login": "operator", "password": PASSWORD})
    assert_problem(answer, 401, "credentials_invalid")
    # and no shopper is an account that the admin knows
    assert not StaffUser.objects.filter(username=username).exists()


def test_a_token_of_a_session_that_never_was_is_refused() -> None:
    customer = make_customer()
    session = new_session(slot=customer.slot, user_id=customer.user_id, device="", now=timezone.now())
    access = sign_access_token(user_id=customer.user_id, session_id=session.id, now=timezone.now())
    assert_problem(Client(access)("get", "/users/me"), 401, "token_invalid")
    # negative control: with its session it passes
    session.save(using=place_of_user(customer.user_id).alias, force_insert=True)
    assert Client(access)("get", "/users/me").status_code == 200
    assert get_customer(customer.user_id).version == 0


def test_logging_in_by_phone_and_code(anyone: Client) -> None:
    phone = new_phone()
    for _ in range(2):  # the second is within the minute, and is told the same
        asked = anyone("post", "/auth/otp", {"phone": phone.value})
        assert (asked.status_code, asked.json()) == (202, {"expires_in": 300})
    code = last_sent_code(phone)
    wrong = f"{(int(code) + 1) % 10**6:06d}"
    assert_problem(anyone("post", "/auth/token/otp", {"phone": phone.value, "code": wrong}), 401, "credentials_invalid")
    answer = anyone("post", "/auth/token/otp", {"phone": phone.value, "code": code})
    assert answer.status_code == 200
    assert answer.json().keys() == {"access", "refresh", "expires_in"}
    me = Client(answer.json()["access"])("get", "/users/me").json()
    assert (me["phone"], me["phone_verified"], me["username"]) == (phone.value, True, None)
    used = anyone("post", "/auth/token/otp", {"phone": phone.value, "code": code})
    assert_problem(used, 401, "credentials_invalid")


def test_what_is_no_phone_or_code_is_a_bad_request(anyone: Client) -> None:
    assert_problem(anyone("post", "/auth/otp", {"phone": "12345"}), 400, "validation_error", "/phone")
    assert_problem(anyone("post", "/auth/otp", {}), 400, "validation_error", "/phone")
    answer = anyone("post", "/auth/token/otp", {"phone": "+441632960961", "code": 123456})
    assert_problem(answer, 400, "validation_error", "/code")
    unknown = anyone("post", "/auth/token/otp", {"phone": new_phone().value, "code": "123456"})
    assert_problem(unknown, 401, "credentials_invalid")


def test_a_first_proof_ends_what_was_set_before(anyone: Client) -> None:
    username, phone = new_username(), new_phone()
    credentials = {"password": PASSWORD}
    made = anyone("post", "/auth/register", credentials | {"username": username.value, "phone": phone.value}).json()
    before = anyone("post", "/auth/token", credentials | {"login": username.value}).json()
    anyone("post", "/auth/otp", {"phone": phone.value})
    pair = anyone("post", "/auth/token/otp", {"phone": phone.value, "code": last_sent_code(phone)}).json()
    assert Client(pair["access"])("get", "/users/me").json()["id"] == made["user_id"]
    assert_problem(Client(before["access"])("get", "/users/me"), 401, "token_invalid")
    assert_problem(anyone("post", "/auth/token/refresh", {"refresh": before["refresh"]}), 401, "token_invalid")
    for login in (username, phone):
        refused = anyone("post", "/auth/token", credentials | {"login": login.value})
        assert_problem(refused, 401, "credentials_invalid")


def test_logins_are_changed_and_removed_with_a_proof(anyone: Client, username: str, shopper: Client) -> None:
    proof, email, other = {"current_password": PASSWORD}, new_email(), new_username().value
    begun = shopper("put", "/users/me/logins/email", proof | {"email": email.value})
    assert (begun.status_code, begun.json()) == (202, {"expires_in": 300})
    code = last_sent_code(email)
    assert anyone("post", "/auth/verify", {"login": email.value, "code": code}).status_code == 204
    assert shopper("get", "/users/me").json()["email_verified"]
    # a code to that address is as good as the password
    assert shopper("post", "/users/me/codes", {"to": "email"}).status_code == 429
    assert_problem(shopper("post", "/users/me/codes", {"to": "phone"}), 409, "invalid_state")
    assert shopper("put", "/users/me/logins/username", proof | {"username": other}).status_code == 204
    assert shopper("get", "/users/me").json()["username"] == other
    assert shopper("delete", "/users/me/logins/username", proof).status_code == 204
    assert_problem(shopper("delete", "/users/me/logins/email", proof), 409, "invalid_state")
    assert_problem(shopper("delete", "/users/me/logins/phone", proof), 404, "not_found")
    assert anyone("post", "/auth/token", {"login": email.value, "password": PASSWORD}).status_code == 200
    assert_problem(anyone("post", "/auth/token", {"login": username, "password": PASSWORD}), 401, "credentials_invalid")


@pytest.mark.parametrize(
    ("proof", "status", "code"),
    [
        ({"current_password": "wrong"}, 401, "credentials_invalid"),
        ({"code": "123456"}, 401, "credentials_invalid"),
        ({}, 400, "validation_error"),
        ({"current_password": PASSWORD, "code": "123456"}, 400, "validation_error"),
    ],
)
def test_without_a_proof_no_login_changes(shopper: Client, proof: dict[str, str], status: int, code: str) -> None:
    fields = [""] if status == 400 else []
    for method, path, body in (
        ("put", "/users/me/logins/username", {"username": new_username().value}),
        ("put", "/users/me/logins/email", {"email": new_email().value}),
        ("put", "/users/me/logins/phone", {"phone": new_phone().value}),
        ("delete", "/users/me/logins/username", {}),
        ("post", "/users/me/password", {"new_password": "another password"}),
    ):
        assert_problem(shopper(method, path, proof | body), status, code, *fields)


def test_an_account_is_deleted_with_a_proof(anyone: Client, username: str, shopper: Client) -> None:
    assert_problem(shopper("delete", "/users/me", {}), 400, "validation_error", "")
    assert_problem(shopper("delete", "/users/me", {"current_password": "wrong"}), 401, "credentials_invalid")
    assert shopper("delete", "/users/me", {"current_password": PASSWORD}).status_code == 204
    assert_problem(shopper("get", "/users/me"), 401, "token_invalid")
    assert_problem(anyone("post", "/auth/token", {"login": username, "password": PASSWORD}), 401, "credentials_invalid")
    assert anyone("post", "/auth/register", {"username": username, "password": PASSWORD}).status_code == 201


def test_data_is_asked_for_and_read(shopper: Client) -> None:
    assert_problem(shopper("post", "/users/me/exports", {"what": "all"}), 400, "validation_error", "/what")
    asked = shopper("post", "/users/me/exports")
    assert asked.status_code == 202
    export = asked.json()
    assert (export["status"], export["part_count"]) == ("requested", None)
    path = f"/users/me/exports/{export['id']}"
    assert asked.headers["Location"] == API + path
    assert_problem(shopper("post", "/users/me/exports", {}), 409, "limit_reached")
    assert_problem(shopper("get", f"{path}/parts/1"), 404, "not_found")
    user_id = int(shopper("get", "/users/me").json()["id"])
    drive_exports(alias=place_of_user(user_id).alias, now=timezone.now())
    ready = shopper("get", path).json()
    assert ready["status"] == "ready"
    assert shopper("get", f"{path}/parts/1").json()["kind"] == "account"
    assert [row["id"] for row in shopper("get", "/users/me/exports").json()["results"]] == [export["id"]]
    for nonsense in ("nonsense", "%C2%84", "a" * 33):
        assert_problem(shopper("get", f"/users/me/exports/{nonsense}"), 404, "not_found")
    for nonsense in ("0", "x", str(ready["part_count"] + 1)):
        assert_problem(shopper("get", f"{path}/parts/{nonsense}"), 404, "not_found")
