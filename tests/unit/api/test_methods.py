"""Methods at the addresses that are no endpoints of the shop: health checks, schema, Swagger UI."""

import pytest
from django.test import Client

ADDRESSES = ["/healthz/live", "/healthz/ready", "/api/schema", "/api/docs"]


@pytest.mark.parametrize("path", ADDRESSES)
def test_options_are_told_without_a_body(path: str) -> None:
    answer = Client().options(path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert {"GET", "HEAD", "OPTIONS"} <= set(answer["Allow"].split(", "))


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
