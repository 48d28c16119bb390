"""What the OpenAPI schema says that the library would leave out."""

from typing import Any

import pytest
from django.conf import settings
from django.test import Client

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))


@pytest.fixture
def schema() -> dict[str, Any]:
    return Client().get("/api/schema").json()


@pytest.mark.parametrize("path", ["/api/v1/users/me", "/api/v1/users/me/logins/email"])
def test_a_delete_that_takes_a_body_says_so(schema: dict[str, Any], path: str) -> None:
    body = schema["paths"][path]["delete"]["requestBody"]
    assert body["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/ProofRequest"}


def test_other_deletes_take_none(schema: dict[str, Any]) -> None:
    assert "requestBody" not in schema["paths"]["/api/v1/auth/sessions"]["delete"]


def test_a_shoppers_endpoint_takes_a_token_or_a_signed_request(schema: dict[str, Any]) -> None:
    assert schema["paths"]["/api/v1/orders"]["post"]["security"] == [{"accessToken": []}, {"signedRequest": []}]
    schemes = schema["components"]["securitySchemes"]
    assert [schemes[name]["scheme"] for name in ("accessToken", "signedRequest")] == ["bearer", "FG1-HMAC-SHA256"]
