"""The canonical string and its signature, held to the vectors that clients are given."""

import hashlib
import hmac
import json
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

from infra.signing.canonical import (
    SCHEME,
    Credentials,
    canonical_query,
    canonical_string,
    is_signature,
    read_credentials,
    sign,
)

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "request-signing.md").read_text()
VECTORS = json.loads(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])
SECRET = re.search(r"The secret of all of them is `([^`]+)`", PAGE)[1]
NONCE, SIGNATURE = "n" * 16, "0" * 64


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["what"])
def test_the_server_keeps_to_the_published_vectors(vector: dict) -> None:
    path, _, query = vector["target"].partition("?")
    message = canonical_string(
        method=vector["method"],
        path=unquote_to_bytes(path),
        query=query.encode(),
        time=vector["time"],
        nonce=vector["nonce"],
        on_behalf_of=vector["on_behalf_of"],
        body=vector["body"].encode(),
    )
    assert message.decode() == vector["canonical"]
    assert sign(SECRET, message) == vector["signature"]
    # and so does who knows no more than the page
    assert hmac.new(SECRET.encode(), vector["canonical"].encode(), hashlib.sha256).hexdigest() == vector["signature"]


def test_the_page_s_own_program_agrees() -> None:
    [program] = re.findall(r"```python\n(.*?)\nsignature = ", PAGE, re.DOTALL)
    names: dict = {}
    exec("import hashlib, urllib.parse\n" + program, names)
    for vector in VECTORS:
        path, _, query = vector["target"].partition("?")
        made = names["canonical"](
            vector["method"],
            path,
            query,
            vector["time"],
            vector["nonce"],
            vector["on_behalf_of"],
            vector["body"].encode(),
        )
        assert made.decode() == vector["canonical"]


@pytest.mark.parametrize(
    ("query", "canonical"),
    [
        (b"", ""),
        (b"&&", ""),
        (b"b=1&a=2&a=1", "a=1&a=2&b=1"),
        (b"a", "a="),
        (b"a=b=c", "a=b%3Dc"),
        (b"a=%zz&b=%", "a=%25zz&b=%25"),
        (b"a=+&b=%2B", "a=%20&b=%2B"),
        (b"a=\xff", "a=%FF"),
        (b"a-b=1&a=2", "a=2&a-b=1"),
    ],
)
def test_queries_that_mean_the_same_are_written_the_same(query: bytes, canonical: str) -> None:
    assert canonical_query(query) == canonical


def test_every_part_is_signed() -> None:
    parts = {
        "method": "POST",
        "path": b"/api/v1/orders",
        "query": b"a=1",
        "time": 1,
        "nonce": NONCE,
        "on_behalf_of": "17",
        "body": b"{}",
    }
    others = {
        "method": "PUT",
        "path": b"/api/v1/order",
        "query": b"a=2",
        "time": 2,
        "nonce": "m" * 16,
        "on_behalf_of": "1",
        "body": b"{ }",
    }
    signed = {sign(SECRET, canonical_string(**{**parts, name: other})) for name, other in others.items()}
    assert len(signed | {sign(SECRET, canonical_string(**parts))}) == len(others) + 1


def test_credentials_are_read() -> None:
    header = f"{SCHEME} Key=fgk_1, Time=1795651200, Nonce={NONCE}, Signature={SIGNATURE}"
    assert is_signature(header)
    assert is_signature(header.replace(SCHEME, SCHEME.lower()))
    assert read_credentials(header) == Credentials("fgk_1", 1795651200, NONCE, SIGNATURE)


@pytest.mark.parametrize(
    "credentials",
    [
        "",
        "Key=a",
        f"Key=a, Time=-1, Nonce={NONCE}, Signature={SIGNATURE}",
        f"Key=a, Time=1, Nonce=short, Signature={SIGNATURE}",
        f"Key=a, Time=1, Nonce={NONCE}, Signature={SIGNATURE.upper().replace('0', 'A')}",
        f"Key=a, Time=1, Nonce={NONCE}, Signature={SIGNATURE}0",
        f"Key=\u0661, Time=1, Nonce={NONCE}, Signature={SIGNATURE}",
        f"Key=a, Time=\u0661, Nonce={NONCE}, Signature={SIGNATURE}",
    ],
)
def test_what_is_malformed_is_none(credentials: str) -> None:
    assert read_credentials(f"{SCHEME} {credentials}") is None


@pytest.mark.parametrize("header", ["", "Bearer abc", "FG1-HMAC-SHA256", "FG1-HMAC-SHA2567 Key=a"])
def test_other_schemes_are_not_looked_at(header: str) -> None:
    assert not is_signature(header)
