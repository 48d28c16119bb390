"""What a database error means, and which transactions are tried again."""

import MySQLdb
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, OperationalError, ProgrammingError

from infra.mysql import retry
from infra.mysql.connection import connection_params
from infra.mysql.errors import BreakerOpen, CommitOutcomeUnknown, PoolExhausted, QueryTimeout
from infra.mysql.options import PoolOptions, session_statement
from infra.mysql.retry import (
    is_connection_lost,
    is_deadlock,
    is_duplicate_key,
    is_lock_wait_timeout,
    is_missing_table,
    with_deadlock_retry,
)

DEADLOCK = OperationalError(1213, "Deadlock found")
LOCK_WAIT = OperationalError(1205, "Lock wait timeout exceeded")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry.time, "sleep", lambda seconds: None)


class Transaction:
    def __init__(self, *outcomes: Exception | str) -> None:
        self.outcomes = list(outcomes)

    def __call__(self) -> str:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def test_errors_are_told_apart_whether_django_or_mysqldb_raised_them():
    assert is_duplicate_key(IntegrityError(1062, "Duplicate entry"))
    assert is_duplicate_key(MySQLdb.IntegrityError(1062, "Duplicate entry"))
    assert is_deadlock(DEADLOCK)
    assert is_lock_wait_timeout(LOCK_WAIT)
    assert is_missing_table(ProgrammingError(1146, "no such table"))
    assert not is_duplicate_key(IntegrityError("1062"))


@pytest.mark.parametrize("number", [2002, 2003, 2006, 2013, 1927, 4031, 1053])
def test_a_lost_or_unreachable_server_is_known(number: int):
    assert is_connection_lost(OperationalError(number, "gone"))


@pytest.mark.parametrize("error", [QueryTimeout("x"), BreakerOpen("x"), CommitOutcomeUnknown("x")])
def test_the_backends_own_errors_are_losses_too(error: Exception):
    assert is_connection_lost(error)


@pytest.mark.parametrize("error", [DEADLOCK, LOCK_WAIT, PoolExhausted("x"), ValueError(2013)])
def test_other_errors_are_no_losses(error: Exception):
    assert not is_connection_lost(error)


def test_deadlocks_and_lock_waits_are_tried_again():
    assert with_deadlock_retry(Transaction(DEADLOCK, LOCK_WAIT, "done")) == "done"


def test_the_last_attempts_error_is_told():
    with pytest.raises(OperationalError, match="Deadlock"):
        with_deadlock_retry(Transaction(DEADLOCK, DEADLOCK, "too late"), attempts=2)


@pytest.mark.parametrize("error", [IntegrityError(1062, "x"), CommitOutcomeUnknown("x"), PoolExhausted("x")])
def test_nothing_else_is_tried_again(error: Exception):
    transaction = Transaction(error, "must not run")
    with pytest.raises(type(error)):
        with_deadlock_retry(transaction)
    assert transaction.outcomes == ["must not run"]


def test_both_kinds_of_server_get_the_session_in_one_statement():
    mariadb = session_statement("10.11.19-MariaDB-log", PoolOptions())
    mysql = session_statement("9.7.4", PoolOptions())

    for statement in (mariadb, mysql):
        assert statement.count("SET ") == 1
        assert "STRICT_TRANS_TABLES" in statement
        assert "time_zone='+00:00'" in statement
        assert "innodb_lock_wait_timeout=2" in statement
    assert "SESSION tx_isolation='READ-COMMITTED'" in mariadb
    assert "idle_transaction_timeout=10" in mariadb
    assert "SESSION transaction_isolation='READ-COMMITTED'" in mysql
    assert "wait_timeout=10" in mysql


def test_idle_connections_are_thrown_away_before_mysql_ends_them():
    options = PoolOptions()

    assert options.max_idle_s < options.idle_transaction_timeout_s
    assert options.lock_wait_timeout_s < options.query_timeout_s


def test_an_option_that_does_not_exist_is_told():
    assert PoolOptions.of({"POOL": {"size": 3}}).size == 3
    with pytest.raises(ImproperlyConfigured, match="sizes"):
        PoolOptions.of({"POOL": {"sizes": 3}})


@pytest.mark.parametrize("name", ["init_command", "sql_mode", "autocommit", "cursorclass"])
def test_options_that_would_undo_the_session_are_refused(name: str):
    with pytest.raises(ImproperlyConfigured, match=name):
        connection_params({name: "x"}, PoolOptions(), query_timeout_s=1)


def test_every_call_of_the_client_library_has_a_limit():
    params = connection_params({}, PoolOptions(connect_timeout_s=0.5), query_timeout_s=2.5)

    assert (params["connect_timeout"], params["read_timeout"], params["write_timeout"]) == (1, 3, 3)
