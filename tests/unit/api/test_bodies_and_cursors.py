"""Bodies that are not JSON, cursors that were made for another list, problems of every status."""

import json

import pytest
from django.core import signing
from django.db import OperationalError

from infra.api.pagination import CursorCodec
from infra.api.parsers import decode_json
from infra.api.problems import as_domain_error, problem_body, problem_headers, problem_response
from infra.errors import STATUS_BY_CODE, BadRequest, Code, RateLimited, ValidationFailed
from infra.mysql.errors import CommitOutcomeUnknown, PoolExhausted


@pytest.mark.parametrize("raw", [b"{", b"\xff", b"NaN", b'{"a": Infinity}', b"[" * 100_000, b'{"a": 1} x', b"'a'"])
def test_what_is_not_json_is_a_bad_request(raw):
    with pytest.raises(BadRequest):
        decode_json(raw)


def test_a_member_named_twice_is_refused():
    with pytest.raises(ValidationFailed):
        decode_json(b'{"quantity": 1, "quantity": 9}')


def test_an_empty_body_is_an_empty_object():
    assert decode_json(b"") == {}


def test_a_cursor_leads_back_to_its_key():
    codec = CursorCodec(7, "/orders", "paid")
    cursor = codec.encode([123])
    assert codec.decode(cursor) == [123]
    assert codec.encode(None) is None
    assert codec.decode(None) is None


@pytest.mark.parametrize("scope", [(8, "/orders", "paid"), (7, "/other", "paid"), (7, "/orders", "")])
def test_a_cursor_is_bound_to_user_path_and_filters(scope):
    cursor = CursorCodec(7, "/orders", "paid").encode([123])
    with pytest.raises(ValidationFailed):
        CursorCodec(*scope).decode(cursor)


@pytest.mark.parametrize("cursor", ["x", "a:b:c", "é", "=" * 900])
def test_a_made_up_cursor_is_refused(cursor):
    with pytest.raises(ValidationFailed):
        CursorCodec(7).decode(cursor)


def test_a_cursor_is_good_for_a_day(monkeypatch):
    codec = CursorCodec(7)
    cursor = codec.encode([1])
    now_s = signing.time.time()
    monkeypatch.setattr(signing.time, "time", lambda: now_s + 24 * 3600 + 60)
    with pytest.raises(ValidationFailed):
        codec.decode(cursor)


def test_every_code_has_one_status():
    assert set(STATUS_BY_CODE) == set(Code)


@pytest.mark.parametrize(
    ("exc", "code"),
    [
        (CommitOutcomeUnknown(), Code.OUTCOME_UNKNOWN),
        (PoolExhausted(), Code.OVERLOADED),
        (OperationalError(1213, "deadlock"), Code.OVERLOADED),
        (OperationalError(1205, "lock wait"), Code.OVERLOADED),
        (OperationalError(2003, "refused"), Code.SHARD_UNAVAILABLE),
        (RuntimeError("unexpected"), Code.INTERNAL_ERROR),
    ],
)
def test_an_exception_becomes_what_the_client_is_told(exc, code):
    error = as_domain_error(exc)
    assert error.code == code
    assert str(exc) not in json.dumps(problem_body(error)) or not str(exc)
    assert ("Retry-After" in problem_headers(error)) == (error.status in {429, 503})


def test_a_problem_has_the_media_type_and_the_seconds_to_wait():
    response = problem_response(RateLimited("Slow down.", retry_after_s=7))
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Retry-After"] == "7"
    assert json.loads(response.content)["code"] == "rate_limited"
