"""Signed requests, through Django and through the fast lane: what passes, what is refused and how."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone
from rest_framework.test import APIClient

from apps.orders.models import OrderEvent
from apps.users.services.erasure import erase_customer
from apps.users.services.profile import block_customer
from config.lane import make_fast_lane
from infra.errors import Code
from infra.http.messages import LaneRequest
from infra.signing import verification as steps
from infra.signing.canonical import SCHEME
from infra.signing.clients import KNOWN_KEYS
from infra.signing.models import ActsFor, ApiClientUser, SigningNonce
from infra.signing.services import purge_nonces, revoke_key
from infra.signing.verification import required_scope
from tests.factories.clients import Signer, make_client, make_key
from tests.factories.orders import make_buyer, make_sku
from tests.factories.users import registered

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))

ME, ORDERS = "/api/v1/users/me", "/api/v1/orders"


@pytest.fixture
def signer() -> Signer:
    return Signer(make_key(make_client()), on_behalf_of=str(registered()))


def assert_refused(response: Any, status: int, code: str) -> None:
    assert (response.status_code, response.json()["code"]) == (status, code), response.json()
    challenge = f'{SCHEME} realm="floodgate"' if code == Code.SIGNATURE_INVALID else None
    assert response.headers.get("WWW-Authenticate") == challenge


def with_headers(signer: Signer, headers: dict[str, str], *, target: str = ME) -> Any:
    """Send a GET with headers made before."""
    return Signer(signer.key).send("GET", target, more=headers)


def order_body(buyer: Any, *, sku: str) -> dict[str, object]:
    return {"items": [{"sku": sku, "quantity": 1}], "address_id": str(buyer.address_id)}


def through_the_lane(signer: Signer, wanted: object, **changes: object) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Place an order as the lean worker dispatches it."""
    raw = json.dumps(wanted).encode()
    headers = signer.headers("POST", ORDERS, raw) | {"Content-Type": "application/json", "Idempotency-Key": "key-1"}
    values = {
        "method": "POST",
        "path": ORDERS,
        "query": b"",
        "headers": {name.lower().encode(): value.encode() for name, value in headers.items()},
        "body": raw,
        "peer": "127.0.0.1",
    }
    request = LaneRequest(**{**values, **changes})
    response = make_fast_lane().match("POST", ORDERS)(request)
    return response.status, {k.decode(): v.decode() for k, v in response.headers}, json.loads(response.body)


def test_a_client_acts_for_a_shopper(signer: Signer) -> None:
    answer = signer.send("GET", ME)
    assert (answer.status_code, answer.json()["id"]) == (200, signer.on_behalf_of)
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("way", ["Django", "the lane"])
def test_an_order_is_placed_for_a_shopper(way: str) -> None:
    buyer, sku = make_buyer(), make_sku(1)
    signer = Signer(make_key(make_client()), on_behalf_of=str(buyer.user_id))
    body = order_body(buyer, sku=sku)
    if way == "Django":
        answer = signer.send("POST", ORDERS, body, more={"Idempotency-Key": "key-1"})
        status, order = answer.status_code, answer.json()
    else:
        status, _, order = through_the_lane(signer, body)
    assert (status, order["items"][0]["sku"]) == (201, sku)
    assert OrderEvent.objects.for_order(int(order["id"])).filter(order_id=int(order["id"])).exists()
    # the same key, signed anew, gets the same order
    answer = signer.send("POST", ORDERS, body, more={"Idempotency-Key": "key-1"})
    assert (answer.json()["id"], answer.headers["Idempotency-Replayed"]) == (order["id"], "true")


def test_the_lane_refuses_as_django_does() -> None:
    buyer, sku = make_buyer(), make_sku(1)
    signer = Signer(make_key(make_client()), on_behalf_of=str(buyer.user_id))
    status, headers, problem = through_the_lane(signer, order_body(buyer, sku=sku), body=b"{}")
    assert (status, problem["code"]) == (401, "signature_invalid")
    assert headers["WWW-Authenticate"] == f'{SCHEME} realm="floodgate"'
    signer = Signer(make_key(make_client(scopes="orders:read")), on_behalf_of=str(buyer.user_id))
    status, _, problem = through_the_lane(signer, order_body(buyer, sku=sku))
    assert (status, problem["code"]) == (403, "permission_denied")


def test_a_query_is_signed_whatever_its_order(signer: Signer) -> None:
    headers = signer.headers("GET", f"{ORDERS}?limit=5&status=paid")
    assert with_headers(signer, headers, target=f"{ORDERS}?status=paid&limit=5").status_code == 200
    headers = signer.headers("GET", f"{ORDERS}?limit=5&status=paid")
    assert_refused(with_headers(signer, headers, target=f"{ORDERS}?status=paid"), 401, "signature_invalid")


@pytest.mark.parametrize(("seconds", "passes"), [(-299, True), (298, True), (-302, False), (302, False)])
def test_a_time_stamp_is_good_for_five_minutes_either_way(signer: Signer, seconds: int, passes: bool) -> None:
    headers = signer.headers("GET", ME, at=timezone.now() + timedelta(seconds=seconds))
    answer = with_headers(signer, headers)
    if passes:
        assert answer.status_code == 200
    else:
        assert_refused(answer, 401, "signature_invalid")


def test_a_nonce_works_once_for_each_key(signer: Signer) -> None:
    nonce = "0123456789abcdef"
    headers = signer.headers("GET", ME, nonce=nonce)
    assert with_headers(signer, headers).status_code == 200
    assert_refused(with_headers(signer, headers), 401, "signature_invalid")
    # signed anew it is still used
    later = signer.headers("GET", ME, nonce=nonce, at=timezone.now() + timedelta(seconds=9))
    assert_refused(with_headers(signer, later), 401, "signature_invalid")
    # another key's is its own
    other = Signer(make_key(make_client()), on_behalf_of=signer.on_behalf_of)
    assert with_headers(other, other.headers("GET", ME, nonce=nonce)).status_code == 200


def test_without_the_nonce_a_request_could_be_sent_again(signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    # negative control
    monkeypatch.setattr(steps, "_use_nonce", lambda _: None)
    headers = signer.headers("GET", ME)
    assert [with_headers(signer, headers).status_code for _ in range(2)] == [200, 200]


def test_only_genuine_requests_cost_a_nonce(signer: Signer) -> None:
    before = SigningNonce.objects.count()
    for headers in (
        signer.headers("GET", ME, secret="another"),
        signer.headers("POST", ME),
        signer.headers("GET", ME) | {"On-Behalf-Of": "1"},
        {"Authorization": f"{SCHEME} nonsense"},
    ):
        assert_refused(with_headers(signer, headers), 401, "signature_invalid")
    assert SigningNonce.objects.count() == before


def test_nonces_are_cleared_when_their_time_stamps_are_too_old(signer: Signer) -> None:
    signer.send("GET", ME)
    now = timezone.now()
    purge_nonces(now=now + timedelta(seconds=settings.SIGNING_WINDOW_S))
    assert SigningNonce.objects.exists()
    purge_nonces(now=now + timedelta(seconds=settings.SIGNING_WINDOW_S + 61))
    assert not SigningNonce.objects.exists()


def test_a_revoked_key_and_a_client_that_is_switched_off_are_refused(signer: Signer) -> None:
    client = make_client()
    first, second = make_key(client), make_key(client)
    revoke_key(client_id=client.id, key_id=first.key_id, actor="mia", now=timezone.now())
    assert_refused(Signer(first, signer.on_behalf_of).send("GET", ME), 401, "signature_invalid")
    assert Signer(second, signer.on_behalf_of).send("GET", ME).status_code == 200
    client.is_active = False
    client.save()
    KNOWN_KEYS.refresh()
    assert_refused(Signer(second, signer.on_behalf_of).send("GET", ME), 401, "signature_invalid")


def test_a_client_does_what_its_scopes_say() -> None:
    user_id = str(registered())
    reader = Signer(make_key(make_client(scopes="users:read")), user_id)
    assert reader.send("GET", ME).status_code == 200
    assert_refused(reader.send("PATCH", ME, {"display_name": "Ada"}), 403, "permission_denied")
    assert_refused(reader.send("GET", ORDERS), 403, "permission_denied")
    writer = Signer(make_key(make_client(scopes="users:write")), user_id)
    assert writer.send("PATCH", ME, {"display_name": "Ada"}).status_code == 200
    assert_refused(writer.send("GET", ME), 403, "permission_denied")


def test_a_client_acts_for_whom_it_may() -> None:
    listed, other = registered(), registered()
    client = make_client(acts_for=ActsFor.LISTED)
    ApiClientUser.objects.create(client=client, user_id=listed)
    key = make_key(client)
    assert Signer(key, str(listed)).send("GET", ME).status_code == 200
    assert_refused(Signer(key, str(other)).send("GET", ME), 403, "permission_denied")
    nobodys = make_key(make_client(acts_for=ActsFor.NOBODY))
    assert_refused(Signer(nobodys, str(listed)).send("GET", ME), 403, "permission_denied")


def test_who_names_no_shopper_reaches_no_shoppers_pages(signer: Signer) -> None:
    assert_refused(Signer(signer.key).send("GET", ME), 403, "permission_denied")


@pytest.mark.parametrize("user_id", ["0", "x", "9223372036854775808", "01"])
def test_what_is_no_user_id_is_told(signer: Signer, user_id: str) -> None:
    answer = Signer(signer.key, user_id).send("GET", ME)
    assert_refused(answer, 400, "validation_error")
    assert answer.json()["errors"][0]["field"] == "header:On-Behalf-Of"


def test_nobody_acts_for_a_shopper_who_is_unknown_blocked_or_gone(signer: Signer) -> None:
    blocked, gone = registered(), registered()
    block_customer(user_id=blocked, now=timezone.now())
    erase_customer(user_id=gone, actor="shopper", now=timezone.now())
    for user_id in (blocked, gone, 5):
        assert_refused(Signer(signer.key, str(user_id)).send("GET", ME), 403, "permission_denied")


def test_a_client_has_a_limit_of_its_own(signer: Signer) -> None:
    limited = Signer(make_key(make_client(per_second=1, burst=2)), signer.on_behalf_of)
    statuses = [limited.send("GET", ME).status_code for _ in range(4)]
    assert statuses[:2] == [200, 200]
    assert statuses[-1] == 429
    assert signer.send("GET", ME).status_code == 200


def test_a_client_cannot_do_what_a_shopper_has_to_prove(signer: Signer) -> None:
    answer = signer.send("DELETE", ME, {"current_password": "wrong"})
    assert answer.json()["code"] == "credentials_invalid"


def test_the_scope_follows_from_method_and_path() -> None:
    assert required_scope("GET", "/api/v1/orders/5") == "orders:read"
    assert required_scope("HEAD", "/api/v1/users/me") == "users:read"
    assert required_scope("POST", "/api/v1/flash-sales/5/orders") == "flash-sales:write"


def test_a_client_is_told_who_it_is() -> None:
    client = make_client(scopes="client:read orders:read", acts_for=ActsFor.NOBODY, per_second=7, burst=9)
    answer = Signer(make_key(client)).send("GET", "/api/v1/client")
    assert answer.json() == {
        "name": client.name,
        "scopes": ["client:read", "orders:read"],
        "acts_for": "nobody",
        "per_second": 7,
        "burst": 9,
    }


def test_only_clients_are(signer: Signer) -> None:
    anybody = APIClient().get("/api/v1/client")
    assert (anybody.status_code, anybody.json()["code"]) == (401, "not_authenticated")
    shopper = APIClient().get("/api/v1/client", headers={"Authorization": "Bearer nonsense"})
    assert (shopper.status_code, shopper.json()["code"]) == (401, "not_authenticated")
    assert_refused(signer.send("GET", "/api/v1/client"), 403, "permission_denied")
