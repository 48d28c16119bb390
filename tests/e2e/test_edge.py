"""The whole stack behind nginx: its own answers, gunicorn's absence, and reloads under load."""

import re
import secrets
import signal
import socket

import pytest
import requests

from tests.e2e.stack import PORT_BASE

pytestmark = pytest.mark.needs("nginx")


def _raw(request: bytes) -> tuple[bytes, bytes]:
    with socket.create_connection(("127.0.0.1", PORT_BASE), timeout=10) as client:
        client.sendall(request)
        head, _, body = client.makefile("rb").read().partition(b"\r\n\r\n")
    return head.lower(), body


def test_nginx_answers_on_the_public_port_and_gunicorn_on_its_own(stack):
    for port, server in ((PORT_BASE, "nginx"), (PORT_BASE + 1, "gunicorn")):
        answer = requests.get(f"http://127.0.0.1:{port}/api/v1/categories", timeout=10)
        assert (answer.status_code, answer.headers["Server"].partition("/")[0]) == (200, server)


def test_the_page_of_the_api_is_served_with_all_that_it_is_made_of(stack):
    for base in (stack.public, f"http://127.0.0.1:{PORT_BASE + 1}"):
        page = requests.get(base + "/api/docs", timeout=10).text
        parts = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)
        assert len(parts) >= 4
        for part in parts:
            assert requests.get(base + part, timeout=10).status_code == 200, part
        for other in ("/static/admin/css/base.css", "/static/drf_spectacular_sidecar/../admin/css/base.css"):
            assert requests.get(base + other, timeout=10).status_code == 404, other


def test_a_smuggled_request_is_refused_and_its_connection_closed(stack):
    inner = b"POST /api/v1/auth/logout HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n\r\n"
    head, body = _raw(
        b"POST /api/v1/orders HTTP/1.1\r\nHost: shop\r\nContent-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\n" % (len(inner) + 5) + inner
    )
    assert head.startswith(b"http/1.1 400 ")
    assert b"content-type: application/problem+json" in head
    assert b'"bad_request"' in body
    assert body.count(b"HTTP/1.1") == 0, "there is no second answer"


def test_a_body_that_only_a_callback_may_have_reaches_the_application(stack):
    [shopper] = stack.shoppers(1)
    told = shopper.call("POST", "/orders", key="large", data=b" " * 200_000, headers={"Content-Type": "text/plain"})
    assert told.json()["code"] in ("payload_too_large", "unsupported_media_type")
    callback = requests.post(stack.api + "/payments/callbacks/sandbox", data=b" " * 200_000, timeout=10)
    assert callback.json()["code"] == "signature_invalid"
    larger = requests.post(stack.api + "/payments/callbacks/sandbox", data=b" " * 300_000, timeout=10)
    assert (larger.status_code, larger.json()["code"]) == (413, "payload_too_large")


def test_a_read_of_the_catalog_is_shared_and_each_asker_keeps_the_own_id(stack):
    product = requests.get(stack.api + "/products", timeout=10).json()["results"][0]
    answers = [
        requests.get(f"{stack.api}/products/{product['id']}", headers={"X-Request-Id": f"asker-{n:04}"}, timeout=10)
        for n in range(20)
    ]
    assert [answer.headers["X-Request-Id"] for answer in answers] == [f"asker-{n:04}" for n in range(20)]
    assert {answer.json()["id"] for answer in answers} == {product["id"]}
    etag = answers[-1].headers["ETag"]
    again = requests.get(f"{stack.api}/products/{product['id']}", headers={"If-None-Match": etag}, timeout=10)
    assert (again.status_code, again.content) == (304, b"")


def test_while_gunicorn_is_away_nothing_is_taken_and_the_same_key_succeeds_afterwards(healthy):
    [shopper] = healthy.shoppers(1)
    [sku] = healthy.skus(1)
    key = secrets.token_hex(12)
    assert shopper.order(shopper.place((sku, 1)).json()["id"])

    # when
    healthy.signal("gunicorn", signal.SIGKILL)
    refused = [answer for answer in (shopper.place((sku, 1), key=key) for _ in range(3)) if answer.status_code != 201]

    # then
    assert refused, "it was back too soon for this test"
    for answer in refused:
        assert answer.status_code == 503
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] in ("overloaded", "outcome_unknown")
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.headers["X-Request-Id"]
    settled = shopper.place_until_settled((sku, 1), key=key)
    assert settled.status_code == 201
    listed = shopper.call("GET", "/orders").json()["results"]
    assert len(listed) == 2, "one from before, one of the key"
