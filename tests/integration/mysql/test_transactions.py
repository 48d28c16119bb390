"""Django's transactions, and what is told of a COMMIT whose answer does not come."""

from collections.abc import Iterator

import pytest

from tests.integration.mysql.servers import SwallowingProxy, ThrowAwayServer

PATCHED = pytest.mark.parametrize("patched", [True, False], ids=["gevent", "blocking"])


@pytest.fixture
def proxy_to(request: pytest.FixtureRequest) -> Iterator:
    proxies = []

    def make(server: ThrowAwayServer, **how: bool) -> SwallowingProxy:
        # The command byte of a statement, then the statement.
        proxies.append(SwallowingProxy(server.port, b"\x03COMMIT", **how))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.close()


@PATCHED
def test_atomic_blocks_savepoints_and_hooks_work(server, run_case, patched):
    done = run_case("django_transactions", patched=patched, default=server.settings())

    assert done == ["on_commit", "rolled back", "savepoint", "manual"]


@PATCHED
def test_djangos_test_client_works(servers, run_case, patched):
    answers, written = run_case(
        "django_test_client", patched=patched, default=servers[0].settings(), other=servers[1].settings()
    )

    assert answers == ["no database", "1", "written", "1"]
    assert written == 11


@PATCHED
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("committed", [True, False], ids=["committed", "not committed"])
def test_a_connection_lost_during_commit_leaves_the_outcome_unknown(
    server, run_case, proxy_to, patched, committed, reset
):
    proxy = proxy_to(server, forward=committed, reset=reset)

    seen = run_case("commit_through_proxy", patched=patched, default=server.settings(port=proxy.port))

    assert seen["error"] == "CommitOutcomeUnknown"
    assert seen["lost"]
    assert seen["afterwards"] == "ok"
    assert len(server.ask("SELECT * FROM notes")) == committed


@PATCHED
def test_a_commit_without_an_answer_in_time_leaves_the_outcome_unknown(server, run_case, proxy_to, patched):
    proxy = proxy_to(server, forward=True, silent=True)
    settings = server.settings(port=proxy.port, query_timeout_s=1, blocking_query_timeout_s=1)

    seen = run_case("commit_through_proxy", patched=patched, default=settings)

    assert seen["error"] == "CommitOutcomeUnknown"
    assert 0.9 < seen["seconds"] < 2.5
    assert seen["afterwards"] == "ok"


@PATCHED
def test_the_unknown_outcome_is_told_even_if_the_server_takes_no_new_connection(server, run_case, proxy_to, patched):
    proxy = proxy_to(server, forward=True, last=True)

    seen = run_case("commit_through_proxy", patched=patched, default=server.settings(port=proxy.port))

    assert seen["error"] == "CommitOutcomeUnknown"
    assert seen["afterwards"] != "ok"


def test_djangos_own_end_of_a_block_would_hide_it_behind_the_failed_new_connection(server, run_case, proxy_to):
    proxy = proxy_to(server, forward=True, last=True)

    seen = run_case("commit_through_proxy_djangos_way", default=server.settings(port=proxy.port))

    assert seen["error"] == "OperationalError"


@PATCHED
def test_a_connection_lost_before_commit_is_no_unknown_outcome(server, run_case, patched):
    seen = run_case("lost_before_commit", patched=patched, default=server.settings())

    assert seen == {"error": "OperationalError", "lost": True, "rows": 0}
