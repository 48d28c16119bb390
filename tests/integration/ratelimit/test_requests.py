"""Limits on requests: of users, addresses, routes and workers, and that no header talks its way around them."""

import itertools
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.utils import timezone

from apps.users.access_tokens import sign_access_token
from apps.users.services.sessions import new_session
from infra.dynamic.definitions import DEFINED
from infra.dynamic.models import DynamicSetting
from infra.dynamic.services import refresh
from infra.errors import RateLimited
from infra.ratelimit import services
from infra.ratelimit.limits import address_key, known_routes, limit_of_address
from infra.ratelimit.middleware import RateLimitMiddleware
from infra.ratelimit.models import RouteLimit
from infra.sharding.places import place_of_user
from tests.factories.users import make_customer

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))

ME = "/api/v1/users/me"
LIVE = "/healthz/live"
_numbers = itertools.count(1)


def new_address() -> str:
    """Return an address that no other test has used up."""
    return f"203.0.{time.time_ns() // 1_000_000_000 % 256}.{next(_numbers) % 250 + 1}"


def bearer(*, exempt: bool = False) -> dict[str, str]:
    customer = make_customer()
    session = new_session(slot=customer.slot, user_id=customer.user_id, device="", now=timezone.now())
    session.save(using=place_of_user(customer.user_id).alias, force_insert=True)
    token = sign_access_token(user_id=customer.user_id, session_id=session.id, now=timezone.now(), exempt=exempt)
    return {"Authorization": f"Bearer {token}"}


def assert_refused(answer: Any, *, status: int = 429, code: str = "rate_limited") -> None:
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == code
    assert int(answer["Retry-After"]) >= 1
    assert answer["X-Request-Id"]
    assert answer["Cache-Control"] == "no-store"


def statuses(ask: Callable[[int], Any], count: int) -> Counter[int]:
    return Counter(ask(n).status_code for n in range(count))


def passed(ask: Callable[[int], Any], count: int) -> tuple[int, int]:
    """Ask so often; return how many passed, and how many a bucket of one a second may have gained meanwhile."""
    began = time.monotonic()
    counted = statuses(ask, count)
    return count - counted[429], int(time.monotonic() - began) + 1


# -- time ----------------------------------------------------------------------------------------------------


def sent_on(ago_s: float, *, by: str = "127.0.0.2") -> dict[str, str]:
    """Return what a request brings that a proxy sent on so long ago."""
    return {"HTTP_X_REQUEST_START": f"t={time.time() - ago_s:.3f}", "REMOTE_ADDR": by}


@pytest.mark.parametrize("path", [ME, "/api/v1/products"])
def test_what_has_waited_too_long_behind_a_proxy_is_refused_with_nothing_taken(client: Client, path: str) -> None:
    limit_s = settings.REQUEST_WAIT_LIMIT_S
    headers = bearer()

    assert_refused(client.get(path, headers=headers, **sent_on(limit_s + 1)), status=503, code="overloaded")
    assert client.get(path, headers=headers, **sent_on(limit_s - 1)).status_code == 200


def test_only_a_listed_proxy_is_believed_when_it_sent_a_request_on(client: Client) -> None:
    old = sent_on(3600, by="203.0.113.9")
    assert client.get("/api/v1/products", **old).status_code == 200
    assert client.get("/api/v1/products", **sent_on(0) | {"HTTP_X_REQUEST_START": "yesterday"}).status_code == 200


# -- users ---------------------------------------------------------------------------------------------------


def test_a_user_who_asks_too_often_is_told_to_wait_and_others_are_not(client: Client, set_now) -> None:
    set_now(user__per_second=1, user__burst=5)
    one, other = bearer(), bearer()
    count, refilled = passed(lambda _: client.get(ME, headers=one), 20)
    assert 5 <= count <= 5 + refilled
    assert_refused(client.get(ME, headers=one))
    assert client.get(ME, headers=other).status_code == 200


def test_a_token_of_a_bench_shopper_has_no_limit(client: Client, set_now) -> None:
    set_now(user__per_second=1, user__burst=1)
    exempt = bearer(exempt=True)
    assert statuses(lambda _: client.get(ME, headers=exempt), 20) == {200: 20}


def test_by_default_a_user_may_send_what_the_contract_promises() -> None:
    """At least fifty requests a second with bursts of two hundred, over two processes."""
    per_second, burst = DEFINED["limits.user.per_second"], DEFINED["limits.user.burst"]
    assert per_second.default >= 50
    held_elsewhere = burst.default // 8
    assert burst.default - held_elsewhere >= 200


# -- addresses -----------------------------------------------------------------------------------------------


def test_an_address_is_held_to_its_limit_whatever_it_asks_for_and_whatever_its_headers_say(
    client: Client, set_now
) -> None:
    set_now(address__per_second=1, address__burst=5)
    address = new_address()
    lies = itertools.cycle(
        [
            {},
            {"X-Forwarded-For": "127.0.0.1"},
            {"X-Forwarded-For": "127.0.0.2, 127.0.0.1"},
            {"X-Real-IP": "127.0.0.1"},
            {"Forwarded": "for=127.0.0.1"},
            {"Host": "127.0.0.1"},
            {"X-Forwarded-Host": "localhost"},
            {"True-Client-IP": "127.0.0.1"},
        ]
    )
    paths = itertools.cycle(["/api/v1/categories", "/nowhere", ME])

    def ask(_: int) -> Any:
        return client.get(next(paths), headers=next(lies), REMOTE_ADDR=address)

    count, refilled = passed(ask, 40)
    assert 5 <= count <= 5 + refilled
    assert_refused(client.get("/nowhere", REMOTE_ADDR=address))
    # others are not held up by it, and health checks always pass
    assert client.get("/nowhere", REMOTE_ADDR=new_address()).status_code == 404
    assert client.get(LIVE, REMOTE_ADDR=address).status_code == 200


def test_behind_the_listed_proxy_the_address_is_the_one_that_it_names(client: Client, set_now) -> None:
    set_now(address__per_second=1, address__burst=3)
    [proxy] = settings.TRUSTED_PROXIES
    one, other = new_address(), new_address()

    def ask(address: str) -> Any:
        return client.get("/nowhere", headers={"X-Forwarded-For": f"127.0.0.1, {address}"}, REMOTE_ADDR=proxy)

    count, refilled = passed(lambda _: ask(one), 20)
    assert 3 <= count <= 3 + refilled
    assert ask(other).status_code == 404


def test_loopback_has_no_limit_under_the_local_profile_only(client: Client, set_now, settings) -> None:
    set_now(address__per_second=1, address__burst=1)
    for address in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"):
        assert statuses(lambda _, peer=address: client.get("/nowhere", REMOTE_ADDR=peer), 20) == {404: 20}
    # negative control
    settings.RATE_LIMIT_EXEMPT_NETWORKS = []
    services.forget()
    count, refilled = passed(lambda _: client.get("/nowhere", REMOTE_ADDR="127.0.0.1"), 20)
    assert 1 <= count <= 1 + refilled


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("::1", "::1"),
        ("", ""),
        ("not:an:address", "not:an:address"),
    ],
)
def test_addresses_of_one_network_are_counted_together(address: str, key: str) -> None:
    assert address_key(address) == key
    assert (limit_of_address(key) is None) == (address == "::1")


# -- routes --------------------------------------------------------------------------------------------------


def test_a_route_is_held_to_its_limit_for_everybody_together(client: Client) -> None:
    route = "GET api/v1/users/me"
    assert route in known_routes()
    RouteLimit(route=route, per_second=1, burst=4).save()
    services.refresh_routes()
    try:
        exempt, ordinary = bearer(exempt=True), bearer()
        count, refilled = passed(lambda n: client.get(ME, headers=exempt if n % 2 else ordinary), 10)
        assert 4 <= count <= 4 + refilled
        assert_refused(client.get(ME, headers=exempt))
        assert client.get("/api/v1/users/me/addresses", headers=exempt).status_code == 200
    finally:
        RouteLimit.objects.all().delete()
        services.refresh_routes()
    assert client.get(ME, headers=exempt).status_code == 200


def test_every_route_of_the_api_can_be_limited() -> None:
    routes = known_routes()
    assert {"POST api/v1/orders", "GET api/v1/products", "POST api/v1/auth/token"} <= set(routes)
    assert len(routes) >= 25


# -- what a worker takes on ----------------------------------------------------------------------------------


def test_what_a_worker_cannot_serve_in_time_is_refused_at_once_and_nothing_is_done_for_it(set_now) -> None:
    set_now(in_flight=2)
    served: list[str] = []
    inner: list[HttpResponse] = []

    def application(request: HttpRequest) -> HttpResponse:
        served.append(request.path)
        if request.path == "/outer":
            inner.append(RateLimitMiddleware(middle)(RequestFactory().get("/second")))
        return HttpResponse()

    def middle(request: HttpRequest) -> HttpResponse:
        """Runs while two requests are in flight."""
        inner.append(RateLimitMiddleware(application)(RequestFactory().post("/third")))
        inner.append(RateLimitMiddleware(application)(RequestFactory().get(LIVE)))
        return HttpResponse()

    assert RateLimitMiddleware(application)(RequestFactory().get("/outer")).status_code == 200
    third, live, second = inner
    assert (second.status_code, live.status_code) == (200, 200)
    assert (third.status_code, third["Retry-After"]) == (503, "1")
    assert served == ["/outer", LIVE], "the third was never begun"
    assert services.IN_FLIGHT_REQUESTS.count == 0


def test_a_request_that_fails_gives_its_place_back(client: Client) -> None:
    def application(request: HttpRequest) -> HttpResponse:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        RateLimitMiddleware(application)(RequestFactory().get("/"))
    assert services.IN_FLIGHT_REQUESTS.count == 0


# -- for callers ahead of Django -----------------------------------------------------------------------------


def test_one_call_asks_for_all_limits_of_a_request(set_now) -> None:
    set_now(user__per_second=1, user__burst=2)
    asked = {"route": "POST api/v1/orders", "address": "127.0.0.1"}
    user_id = make_customer().user_id
    for _ in range(2):
        services.check(**asked, user_id=user_id)
    with pytest.raises(RateLimited) as refused:
        services.check(**asked, user_id=user_id)
    assert refused.value.retry_after_s == 1
    services.check(**asked, user_id=user_id, exempt=True)
    services.check(**asked)


# -- changes by the staff ------------------------------------------------------------------------------------


def test_what_the_staff_set_holds_after_the_next_reading_and_its_default_once_it_is_deleted(client: Client) -> None:
    ordinary = bearer()
    assert client.get(ME, headers=ordinary).status_code == 200
    DynamicSetting(name="limits.user.per_second", value="1").save()
    DynamicSetting(name="limits.user.burst", value="1").save()
    refresh()
    count, refilled = passed(lambda _: client.get(ME, headers=ordinary), 10)
    assert 1 <= count <= 1 + refilled
    DynamicSetting.objects.all().delete()
    refresh()
    assert statuses(lambda _: client.get(ME, headers=bearer()), 10) == {200: 10}


def test_a_stored_value_that_is_no_longer_allowed_leaves_the_default(caplog: pytest.LogCaptureFixture) -> None:
    for value in ("-1", "many", "1e9", "", "99999999999999"):
        DynamicSetting.objects.update_or_create(name="limits.user.per_second", defaults={"value": value})
        refresh()
        assert DEFINED["limits.user.per_second"].value == 60
    assert "limits.user.per_second takes a whole number" in caplog.text


def test_while_the_global_database_is_away_the_last_values_hold(monkeypatch: pytest.MonkeyPatch, settings) -> None:
    DynamicSetting(name="limits.user.burst", value="7").save()
    refresh()

    def away(*_: object) -> None:
        raise OperationalError(2002, "away")

    with monkeypatch.context() as patched:
        patched.setattr("infra.mysql.base.DatabaseWrapper.create_cursor", away)
        with pytest.raises(OperationalError):
            refresh()
    assert DEFINED["limits.user.burst"].value == 7
