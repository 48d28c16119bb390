"""Outside gevent the backend blocks as Django's own does, with a limit for every call."""


def test_without_gevent_it_blocks_and_pools_nothing(server, run_case):
    seen = run_case("blocking_facts", patched=False, default=server.settings(blocking_query_timeout_s=1))

    assert seen["kind"] == "BlockingConnection"
    assert seen["closed_at_the_end"]
    assert seen["outcome"] == "OperationalError"
    assert 0.9 < seen["seconds"] < 2.5
    assert seen["next"] == "ok"
    assert seen["pools"] == 0


def test_a_long_statement_can_be_given_more_time(server, run_case):
    seen = run_case("patient_statement", patched=False, default=server.settings(blocking_query_timeout_s=1))

    assert seen == {"hasty": "OperationalError", "patient": "ok", "afterwards": "OperationalError"}


def test_a_frozen_server_is_given_up_after_a_few_tries(server, start_case):
    settings = server.settings(blocking_query_timeout_s=1, connect_timeout_s=1)
    case = start_case("frozen_server_blocking", patched=False, default=settings)
    case.wait_until_ready()
    server.freeze()
    case.go()
    seen = case.result()

    assert seen["outcomes"][-1] == "BreakerOpen"
    assert max(seen["seconds"]) < 3
    assert seen["seconds"][-1] < 0.1
