"""OPTIONS and wrong methods, at endpoints and at what is none: health checks, schema, Swagger UI."""

import re

import pytest
from django.conf import settings
from django.test import Client

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))

PARTS = "/static/drf_spectacular_sidecar/swagger-ui-dist"
ENDPOINTS = [
    "/api/v1/orders", "/api/v1/orders/1", "/api/v1/orders/1/cancel", "/api/v1/orders/1/payments", "/api/v1/users/me",
    "/api/v1/auth/sessions", "/api/v1/auth/token", "/api/v1/products", "/api/v1/payments/callbacks/sandbox",
    "/api/v1/events",
]  # fmt: skip
ADDRESSES = ["/healthz/live", "/healthz/ready", "/api/schema", "/api/docs", f"{PARTS}/swagger-ui.css"]


@pytest.mark.parametrize("path", ADDRESSES)
def test_options_are_told_without_a_body(path: str) -> None:
    answer = Client().options(path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert {"GET", "HEAD", "OPTIONS"} <= set(answer["Allow"].split(", "))


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("token", ["", "Bearer no-token"])
def test_the_methods_of_an_endpoint_are_told_without_a_token(path: str, token: str) -> None:
    answer = Client().options(path, headers={"authorization": token} if token else {})
    assert (answer.status_code, answer.content) == (204, b"")
    assert "OPTIONS" in answer["Allow"].split(", ")


@pytest.mark.parametrize("path", ADDRESSES)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "TRACE", "BREW"])
def test_other_methods_are_refused_with_those_that_there_are(path: str, method: str) -> None:
    answer = Client().generic(method, path)
    assert (answer.status_code, answer["Content-Type"]) == (405, "application/problem+json")
    assert answer.json()["code"] == "method_not_allowed"
    assert "GET" in answer["Allow"].split(", ")


@pytest.mark.parametrize("accept", ["text/html", "application/yaml", "image/png;q=0.5"])
def test_the_schema_is_json_whatever_a_client_accepts(accept: str) -> None:
    answer = Client().get("/api/schema", headers={"accept": accept})
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("application/")
    assert answer.json()["openapi"].startswith("3.1")


@pytest.mark.parametrize("accept", ["application/json", "image/png"])
def test_the_docs_are_a_page_whatever_a_client_accepts(accept: str) -> None:
    answer = Client().get("/api/docs", headers={"accept": accept})
    assert (answer.status_code, answer["Content-Type"].split(";")[0]) == (200, "text/html")


def test_all_that_the_page_of_the_docs_loads_is_there() -> None:
    page = Client().get("/api/docs").content.decode()
    parts = re.findall(r'(?:src|href)="(/[^"]+)"', page)
    assert len(parts) >= 3
    for part in parts:
        answer = Client().get(part)
        assert answer.status_code == 200, part
        assert len(b"".join(answer.streaming_content)) > 100, part


@pytest.mark.parametrize("path", ["nothing.js", "../../../__init__.py", "%2e%2e/%2e%2e/__init__.py", ""])
def test_nothing_else_is_sent_as_a_part_of_the_docs(path: str) -> None:
    answer = Client().get(f"{PARTS}/{path}")
    assert (answer.status_code, answer.json()["code"]) in {(404, "not_found"), (400, "bad_request")}
