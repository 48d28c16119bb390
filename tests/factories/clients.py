"""API clients for tests, and requests signed as a client signs them."""

import json
from dataclasses import dataclass
from datetime import datetime
from secrets import token_hex
from typing import Any

from django.utils import timezone
from rest_framework.test import APIClient

from infra.signing.canonical import SCHEME, canonical_string, sign
from infra.signing.models import ActsFor, ApiClient
from infra.signing.services import IssuedKey, issue_key

ALL_SCOPES = "orders:read orders:write users:read users:write"


def make_client(*, scopes: str = ALL_SCOPES, acts_for: str = ActsFor.ANYBODY, **columns: object) -> ApiClient:
    """Write a client without a key."""
    return ApiClient.objects.create(name=f"client-{token_hex(6)}", scopes=scopes, acts_for=acts_for, **columns)


def make_key(client: ApiClient) -> IssuedKey:
    """Give a client a key."""
    return issue_key(client_id=client.id, actor="mia", now=timezone.now())


@dataclass
class Signer:
    """Signs as a client does."""

    key: IssuedKey
    on_behalf_of: str = ""

    def headers(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        at: datetime | None = None,
        nonce: str = "",
        secret: str = "",
    ) -> dict[str, str]:
        """Return the headers of a signed request."""
        path, _, query = target.partition("?")
        seconds, nonce = int((at or timezone.now()).timestamp()), nonce or token_hex(12)
        message = canonical_string(
            method=method,
            path=path.encode(),
            query=query.encode(),
            time=seconds,
            nonce=nonce,
            on_behalf_of=self.on_behalf_of,
            body=body,
        )
        signature = sign(secret or self.key.secret, message)
        authorization = f"{SCHEME} Key={self.key.key_id}, Time={seconds}, Nonce={nonce}, Signature={signature}"
        headers = {"Authorization": authorization}
        return headers | ({"On-Behalf-Of": self.on_behalf_of} if self.on_behalf_of else {})

    def send(self, method: str, target: str, body: object = None, *, more: dict[str, str] | None = None) -> Any:
        """Send a signed request through Django."""
        raw = b"" if body is None else json.dumps(body).encode()
        headers = self.headers(method, target, raw) | (more or {})
        return APIClient().generic(method, target, raw, content_type="application/json", headers=headers)
