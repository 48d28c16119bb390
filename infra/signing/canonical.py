"""What is signed, byte by byte, and the signature; pure (docs/request-signing.md is the client's side of it)."""

import hmac
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

SCHEME: Final = "FG1-HMAC-SHA256"
ON_BEHALF_OF: Final = "On-Behalf-Of"
_PREFIX: Final = SCHEME.lower() + " "
_CREDENTIALS: Final = re.compile(
    r"Key=(?P<key>[A-Za-z0-9_-]{1,64}),\s*Time=(?P<time>[0-9]{1,12}),\s*"
    r"Nonce=(?P<nonce>[A-Za-z0-9_-]{16,64}),\s*Signature=(?P<signature>[0-9a-f]{64})\s*\Z",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the `Authorization` header of a signed request says; nothing of it is proven yet. `time` is in seconds."""

    key_id: str
    time: int
    nonce: str
    signature: str


def is_signature(authorization: str) -> bool:
    """Tell whether an `Authorization` header is of this scheme."""
    return authorization[: len(_PREFIX)].lower() == _PREFIX


def read_credentials(authorization: str) -> Credentials | None:
    """Return what a header of this scheme says, or None where it is malformed."""
    found = _CREDENTIALS.match(authorization[len(_PREFIX) :].lstrip(" "))
    if found is None:
        return None
    return Credentials(found["key"], int(found["time"]), found["nonce"], found["signature"])


def canonical_string(
    *, method: str, path: bytes, query: bytes, time: int, nonce: str, on_behalf_of: str, body: bytes
) -> bytes:
    """Return the bytes that are signed: eight lines, joined by single line feeds, none at the end.

    `path` is percent-decoded, `query` as it was sent, without the question mark.
    """
    lines = (
        SCHEME,
        method.upper(),
        quote_from_bytes(path, safe="/~"),
        canonical_query(query),
        str(time),
        nonce,
        on_behalf_of,
        sha256(body).hexdigest(),
    )
    return "\n".join(lines).encode("utf-8")


def canonical_query(query: bytes) -> str:
    """Return the fields of a query, decoded, encoded again by RFC 3986 and sorted by name, then value, as bytes.

    A plus sign is a space, as in forms; a field without an equals sign has an empty value; empty fields are left out.
    """
    fields = []
    for field in query.split(b"&"):
        if field:
            name, _, value = field.replace(b"+", b" ").partition(b"=")
            fields.append((_encoded(name), _encoded(value)))
    return "&".join(f"{name}={value}" for name, value in sorted(fields))


def sign(secret: str, message: bytes) -> str:
    """Return HMAC-SHA256 (RFC 2104) of the bytes, in hex; the key is the secret's own ASCII."""
    return hmac.digest(secret.encode("ascii"), message, "sha256").hex()


def _encoded(text: bytes) -> str:
    return quote_from_bytes(unquote_to_bytes(text), safe="~")
