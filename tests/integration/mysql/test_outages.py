"""A server that is stopped or dead: its users are told quickly, nobody else notices, and it comes back by itself."""

import pytest

from tests.integration.mysql.servers import SwallowingProxy


def test_a_frozen_server_slows_nobody_but_its_own_users(servers, start_case):
    first, second = servers
    case = start_case("frozen_server", default=first.settings(connect_timeout_s=1), other=second.settings())
    case.wait_until_ready()
    first.freeze()
    case.go()
    case.wait_until_ready()
    first.thaw()
    case.go()
    seen = case.result()

    assert seen["other_outcomes"] == ["ok"]
    assert seen["other_worst_s"] < 0.3
    assert seen["other_count"] > 200
    assert seen["gap"] < 0.3
    assert set(seen["frozen_outcomes"]) <= {"QueryTimeout", "BreakerOpen", "ConnectTimeout"}
    assert seen["frozen_worst_s"] < 3.5
    assert seen["frozen_slow_count"] <= 5 + 3, "the five that were there, then one probe a second"
    assert seen["frozen_count"] > 50, "all others are refused at once"
    assert seen["recovered_after_s"] is not None
    assert seen["recovered_after_s"] < 2


def test_connecting_to_a_frozen_server_holds_nobody_up(servers, start_case):
    first, second = servers
    case = start_case(
        "connecting_to_frozen_server", default=first.settings(connect_timeout_s=1), other=second.settings()
    )
    case.wait_until_ready()
    first.freeze()
    case.go()
    seen = case.result()

    assert set(seen["outcomes"]) <= {"ConnectTimeout", "BreakerOpen"}
    assert seen["seconds"] < 1.5
    assert seen["gap"] < 0.3
    assert seen["other_s"] < 0.2


def test_a_dead_server_is_told_quickly_and_found_again_by_itself(server, start_case):
    case = start_case("dead_server", default=server.settings())
    case.wait_until_ready()
    server.kill()
    case.go()
    case.wait_until_ready()
    server.start()
    case.go()
    seen = case.result()

    assert set(seen["outcomes"]) <= {"OperationalError", "BreakerOpen"}
    assert seen["outcomes"][-1] == "BreakerOpen"
    assert seen["recovered_after_s"] < 2


@pytest.mark.parametrize("patched", [True, False], ids=["gevent", "blocking"])
def test_a_connection_that_is_reset_under_a_statement_is_told_as_lost(server, run_case, patched):
    """As by the kernel of a server that was killed before it had read the statement."""
    proxy = SwallowingProxy(server.port, b"SELECT 7", forward=False, reset=True)
    try:
        outcomes = run_case("statement_through_proxy", patched=patched, default=server.settings(port=proxy.port))
    finally:
        proxy.close()

    assert outcomes == [["ok", 0], ["OperationalError", 2013], ["ok", 0]]


def test_errors_of_a_living_server_do_not_open_the_breaker(server, run_case):
    seen = run_case("lock_waits_and_duplicates", default=server.settings())

    assert set(seen["waits"]) == {"OperationalError"}
    assert set(seen["duplicates"]) == {"IntegrityError"}
    assert seen["breaker"] == "closed"
