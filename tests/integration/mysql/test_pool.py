"""Connections are few, lent to one greenlet at a time, and never lent again unless they are as new."""


def test_a_full_pool_refuses_after_its_limit_and_serves_again(server, run_case):
    seen = run_case("full_pool", default=server.settings(size=2, wait_s=0.3))

    assert seen["outcome"] == "PoolExhausted"
    assert 0.25 < seen["seconds"] < 0.6
    assert seen["afterwards"] == "ok"


def test_those_who_wait_are_served_with_the_connections_there_are(server, run_case):
    seen = run_case("waiters_are_served", default=server.settings(size=3))

    assert seen == {"opened": 3, "in_use": 0, "idle": 3}


def test_the_connection_of_a_killed_greenlet_is_never_used_again(server, run_case):
    seen = run_case("killed_greenlet", default=server.settings())

    assert seen["answers"] == [[["the answer of the heir"]]]
    assert (seen["idle"], seen["in_use"]) == (0, 0)


def test_used_again_it_would_give_the_next_one_a_strangers_answer_or_none(server, run_case):
    seen = run_case("killed_greenlet_unguarded", default=server.settings())

    assert seen["idle"] == 1
    assert seen["answers"] != [[["the answer of the heir"]]]


def test_a_callers_own_time_limit_costs_the_connection(server, run_case):
    assert run_case("timed_out_greenlet", default=server.settings()) == {"answer": "fresh", "opened": 2}


def test_a_statement_over_its_deadline_is_given_up_and_the_next_one_works(server, run_case):
    seen = run_case("query_deadline", default=server.settings(query_timeout_s=0.5))

    assert seen["outcome"] == "QueryTimeout"
    assert 0.4 < seen["seconds"] < 0.9
    assert seen["next"] == 1


def test_each_statement_has_the_whole_time_for_itself(server, run_case):
    assert run_case("many_queries_within_their_deadlines", default=server.settings(query_timeout_s=0.4)) == "ok"


def test_two_greenlets_cannot_use_one_connection_at_once(server, run_case):
    assert "another greenlet" in run_case("one_connection_two_greenlets", default=server.settings())


def test_a_connection_left_in_a_transaction_is_closed(server, run_case):
    assert run_case("dirty_connection", default=server.settings()) == {"seen": 0, "opened": 2}


def test_lent_again_it_would_show_what_was_never_committed(server, run_case):
    assert run_case("dirty_connection_unguarded", default=server.settings()) == {"seen": 1, "opened": 1}


def test_after_an_error_the_connection_is_asked_whether_it_is_clean(server, run_case):
    assert run_case("error_at_the_end", default=server.settings()) == {"seen": 0, "opened": 1}


def test_each_alias_has_a_pool_of_its_own(servers, run_case):
    assert run_case("pool_key", default=servers[0].settings(), other=servers[0].settings())


def test_a_new_user_of_a_pooled_connection_costs_no_statement_of_its_own(server, run_case):
    seen = run_case("session_facts", default=server.settings())

    isolation, sql_mode, time_zone, lock_wait_s, charset, autocommit = seen["session"]
    assert isolation == "READ-COMMITTED"
    assert "STRICT_TRANS_TABLES" in sql_mode
    assert (time_zone, lock_wait_s, charset, autocommit) == ("+00:00", 2, "utf8mb4", 1)
    assert seen["statements_for_ten_users"] == 10


def test_idle_connections_to_a_restarted_server_are_found_dead_before_use(server, start_case):
    case = start_case("server_restarted_while_idle", default=server.settings())
    case.wait_until_ready()
    server.kill()
    server.start()
    case.go()
    seen = case.result()

    assert seen["outcomes"] == ["ok"] * 5
    assert seen["same_wrapper"]
