"""The quick reader of order bodies takes nothing that the serializer would read otherwise or refuse."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rest_framework.exceptions import ValidationError

from apps.orders.api.reading import _read_any, _read_plain, read_wanted_order
from infra.errors import DomainError

PLAIN = {"items": [{"sku": "85123A", "quantity": 2}], "address_id": "4682058040741419345"}
RICH = {**PLAIN, "coupons": ["4682058040741419345", "7"], "points": 20, "expected_total": "5.10"}

odd_values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just([]), st.just({}),
    st.sampled_from(["1", "007", "12.34", "1.", "items", "sku", "9223372036854775808", "A\n", "\x7f", "é"]),
    st.sampled_from([1.0, 2.5, 10**30]),
)  # fmt: skip
items = st.fixed_dictionaries(
    {"sku": st.one_of(st.sampled_from(["85123A", "a.b_c-d", "85123a"]), odd_values)},
    optional={"quantity": st.one_of(st.integers(0, 1001), odd_values), "x": odd_values},
)
bodies = st.fixed_dictionaries(
    {"items": st.one_of(st.lists(items, max_size=4), odd_values)},
    optional={
        "address_id": st.one_of(st.integers(1, 2**64).map(str), odd_values),
        "expected_total": st.one_of(st.sampled_from(["0", "12.3456", "12.34567", "01.2"]), odd_values),
        "coupons": st.one_of(
            st.lists(st.one_of(st.sampled_from(["4682058040741419345", "x" * 65, ""]), odd_values), max_size=11),
            odd_values,
        ),
        "points": st.one_of(st.integers(-1, 10**9 + 1), odd_values),
        "note": odd_values,
        "sku": odd_values,
    },
)


def outcome(read, raw):
    try:
        return read(raw)
    except (DomainError, ValidationError) as error:
        return type(error)


@given(
    st.one_of(bodies, odd_values).map(
        lambda body: json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
    )
)
@example(json.dumps(PLAIN).encode())
@example(json.dumps({**PLAIN, "expected_total": "5.10"}).encode())
@example(json.dumps(RICH).encode())
def test_both_readers_agree(raw):
    assert outcome(read_wanted_order, raw) == outcome(_read_any, raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"items":[{"sku":"a","quantity":1,"quantity":2}],"address_id":"1"}',
        b'{"items":[{"sku":"a","sku":"b","quantity":1}],"address_id":"1"}',
        b'{"items":[{"sku":"a","quantity":1}],"address_id":"1","address_id":"2"}',
        b'{"items":[{"sku":"a","quantity":1}],"address_id":"1","\\u0061ddress_id":"2"}',
        b'{"items":[{"sku":"a","quantity":1}],"items":[{"sku":"a","quantity":1}],"address_id":"1"}',
        b'{"items":[{"sku":"a","quantity":1}],"address_id":"1","expected_total":"1","expected_total":"2"}',
        b'{"items":[{"sku":"\xed\xa0\x80","quantity":1}],"address_id":"1"}',
        b'\xef\xbb\xbf{"items":[{"sku":"a","quantity":1}],"address_id":"1"}',
        b'{"items":[{"sku":"a","quantity":1}],"address_id":"1","coupons":["1"],"coupons":["2"]}',
        b'{"items":[{"sku":"a","quantity":1}],"address_id":"1","points":1,"points":2}',
        b'{"items":[{"sku":"a","quantity":1}],"address_id":"1"}x',
        b'{"items":[{"sku":"a","quantity":1}],"address_id":"1","points":NaN}',
        b"",
        *[b'{"note":' + b"[" * depth + b"]" * depth + b"}" for depth in (400, 900, 990, 1_000, 1_100, 4_000)],
        b'{"a":' * 1_300 + b"1" + b"}" * 1_300,
    ],
)
def test_what_the_contract_refuses_is_refused_however_it_is_read(raw):
    assert _read_plain(raw) is None
    with pytest.raises((DomainError, ValidationError)):
        read_wanted_order(raw)


@pytest.mark.parametrize("body", [PLAIN, RICH])
def test_the_usual_body_is_read_the_quick_way(body):
    wanted = _read_plain(json.dumps(body).encode())
    assert wanted is not None
    assert wanted.items == (("85123A", 2),)
    assert wanted == _read_any(json.dumps(body).encode())
