"""The digests of requests, and the header that carries the key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import ValidationFailed
from infra.idempotency.keys import body_digest, read_key, request_key

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def key(**changes):
    return request_key(**{"user_id": 1, "method": "POST", "path": "/a", "key": "k", "body": {}} | changes)


def test_the_digest_belongs_to_method_path_and_key_byte_for_byte():
    digests = {
        key(**changes).digest
        for changes in ({}, {"method": "PUT"}, {"path": "/b"}, {"key": "K"}, {"key": "k "}, {"path": "/", "key": "ak"})
    }

    assert len(digests) == 6
    assert {len(digest) for digest in digests} == {32}
    assert key(user_id=2).digest == key().digest


def test_the_order_of_members_and_spaces_do_not_make_another_body():
    assert body_digest({"a": 1, "b": [1, 2]}) == body_digest({"b": [1, 2], "a": 1})
    assert body_digest({"a": [1, 2]}) != body_digest({"a": [2, 1]})
    assert body_digest({"a": 1}) != body_digest({"a": "1"})


@given(JSON, JSON)
def test_bodies_are_told_apart_exactly_when_they_differ(one, other):
    # True == 1 in Python, not in JSON: compare the texts.
    assert (body_digest(one) == body_digest(other)) == (repr_json(one) == repr_json(other))


def repr_json(value):
    if isinstance(value, dict):
        return "{" + ",".join(f"{name!r}:{repr_json(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(repr_json(item) for item in value) + "]"
    return repr(value)


def test_a_missing_key_is_refused_only_where_it_is_required():
    assert read_key(None, required=False) is None
    with pytest.raises(ValidationFailed) as refusal:
        read_key(None, required=True)
    assert [(error.field, error.code) for error in refusal.value.errors] == [("header:Idempotency-Key", "required")]


@pytest.mark.parametrize("text", ["", " ", "a b", "a\n", "é", "x" * 256, "\x7f"])
def test_a_key_is_1_to_255_visible_ascii_characters(text):
    with pytest.raises(ValidationFailed):
        read_key(text, required=False)


@pytest.mark.parametrize("text", ["a", "!~", "x" * 255])
def test_every_visible_ascii_key_is_taken(text):
    assert read_key(text, required=True) == text
