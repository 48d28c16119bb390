"""The same bytes at the lean and at the stock worker: where the answers differ, the corpus says why."""

import json

import pytest

from tests.integration.http.clients import Answer, exchange
from tests.integration.http.corpus import ACCEPTED, REFUSED, WAITS, Case


def _told(answer: Answer | None, ignored: frozenset[str] = frozenset()) -> dict[str, str]:
    if answer is None or not answer.body or answer.status >= 400:
        return {}
    told = json.loads(answer.body)
    return {key: value for key, value in told.items() if key not in ignored}


@pytest.mark.parametrize("case", ACCEPTED + REFUSED, ids=lambda case: case.name)
def test_the_lean_worker_answers_as_it_should(lean, case: Case):
    answer, stays_open = exchange(lean.port, case.raw, method=case.method)

    assert answer is not None
    assert (answer.status, stays_open) == (case.status, case.stays_open)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_a_refusal_is_a_problem_and_closes(lean, case: Case):
    answer, _ = exchange(lean.port, case.raw)

    assert answer is not None
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    assert problem["status"] == case.status
    assert problem["trace_id"] == answer.headers["x-request-id"]
    assert {"type", "title", "detail", "code"} <= problem.keys()


@pytest.mark.parametrize("case", ACCEPTED + REFUSED, ids=lambda case: case.name)
def test_the_stock_worker_answers_the_same_but_where_it_is_said(lean, stock, case: Case):
    ours, _ = exchange(lean.port, case.raw, method=case.method)
    difference = case.stock
    if difference is not None and difference.status == WAITS:
        with pytest.raises(TimeoutError):
            exchange(stock.port, case.raw, timeout=0.5)
        return
    theirs, stays_open = exchange(stock.port, case.raw, method=case.method)

    status = case.status if difference is None or difference.status is None else difference.status
    expected_open = case.stays_open if difference is None or difference.stays_open is None else difference.stays_open
    assert theirs is not None
    assert (theirs.status, stays_open) == (status, expected_open)
    if case in ACCEPTED:
        ignored = frozenset({"HTTP_HOST"}) if difference is None else difference.keys | {"HTTP_HOST"}
        assert _told(ours, ignored) == _told(theirs, ignored)
        # A difference that is none would hide one that comes later.
        assert all(_told(ours).get(key) != _told(theirs).get(key) for key in (difference.keys if difference else ()))
