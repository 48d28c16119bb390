"""A statement under way lets the other greenlets of a gevent worker run."""


def test_ten_slow_statements_at_once_take_as_long_as_one(server, run_case):
    assert run_case("sleeps_at_once", default=server.settings()) < 0.9


def test_with_djangos_own_backend_they_queue_up(server, run_case):
    assert run_case("sleeps_at_once", default=server.settings(engine="django.db.backends.mysql")) > 4.5


def test_every_greenlet_gets_its_own_answers(server, run_case):
    seen = run_case("answers_to_their_askers", default=server.settings(size=8, wait_s=5))

    assert seen["wrong"] == 0
    assert seen["opened"] <= 8


def test_a_large_result_that_comes_slowly_holds_nobody_up(server, run_case):
    seen = run_case("trickling_result", default=server.settings())

    assert seen["rows"] == 60
    assert seen["gap"] < 0.25
    assert seen["gap_without_threads"] > 0.5, "the control: read on the hub, the same result blocks it"


def test_a_statement_that_no_buffer_takes_holds_nobody_up(server, start_case):
    server.ask("SET GLOBAL max_allowed_packet = 67108864")
    case = start_case("large_statement_to_frozen_server", default=server.settings(query_timeout_s=1))
    case.wait_until_ready()
    server.freeze()
    case.go()
    seen = case.result()

    assert seen["outcome"] == "QueryTimeout"
    assert seen["seconds"] < 1.5
    assert seen["gap"] < 0.3


def test_answers_of_all_sizes_and_kinds_come_whole(server, run_case):
    lengths, errors = run_case("sizes_and_kinds", default=server.settings())

    assert lengths[:-1] == [0, 1, 250, 251, 16_000, 16_384, 17_000, 65_535, 65_536, 300_000]
    assert lengths[-1] in (0, 17_000_000), "NULL where the server's largest packet is smaller"
    assert errors == ["ProgrammingError", "IntegrityError"]


def test_two_statements_in_one_string_are_refused(server, run_case):
    for patched in (True, False):
        outcome = run_case("several_statements_in_one", patched=patched, default=server.settings())
        assert outcome == "ProgrammingError"
