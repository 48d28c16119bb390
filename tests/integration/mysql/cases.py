"""What the tests have another process do, mostly under gevent; each case returns what the test then judges."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import gevent
import gevent.monkey
import MySQLdb
from django.db import IntegrityError, OperationalError, connections, transaction
from django.test import Client

from infra.mysql import base, connection
from infra.mysql.connection import CooperativeConnection
from infra.mysql.errors import CommitOutcomeUnknown, error_number, is_connection_lost
from infra.mysql.pool import pool_of, pool_states

# 60 rows of 1 kB, each 20 ms after the one before: the server flushes its first 16 kB long before the end.
TRICKLE = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60) "
    "SELECT REPEAT('x', 1000), SLEEP(0.02) FROM n"
)


def ask(sql: str, alias: str = "default") -> Any:
    """The rows of a statement, on this greenlet's connection."""
    with connections[alias].cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else None


def rendezvous() -> None:
    """Tell the test that this point is reached, and wait for its word."""
    print("ready", flush=True)
    if gevent.monkey.is_module_patched("socket"):
        gevent.get_hub().threadpool.apply(sys.stdin.readline)
    else:
        sys.stdin.readline()


def settle() -> None:
    """Let the hub do what ended greenlets have left to it."""
    gevent.sleep(0.02)


@contextmanager
def worst_gap() -> Iterator[list[float]]:
    """Measure, in seconds, the longest time that the hub was held up."""
    gaps = [0.0]

    def tick() -> None:
        while True:
            before = time.monotonic()
            gevent.sleep(0.005)
            gaps[0] = max(gaps[0], time.monotonic() - before - 0.005)

    ticker = gevent.spawn(tick)
    gevent.sleep(0.02)
    try:
        yield gaps
    finally:
        gevent.sleep(0.02)  # a gap is known only when it is over
        ticker.kill()


def outcome_of(action: Callable[[], Any]) -> str:
    """`ok`, or the name of the error."""
    try:
        action()
    except Exception as error:  # noqa: BLE001 - the test judges it
        return type(error).__name__
    return "ok"


# -- cooperation ---------------------------------------------------------------------------------------------


def sleeps_at_once() -> float:
    """Seconds that ten statements of half a second take."""
    began = time.monotonic()
    gevent.joinall([gevent.spawn(ask, "SELECT SLEEP(0.5)") for _ in range(10)], raise_error=True)
    return time.monotonic() - began


def answers_to_their_askers() -> dict[str, int]:
    """Forty greenlets over eight connections, each of which must get its own answers."""
    wrong = []

    def work(number: int) -> None:
        for turn in range(25):
            want = number * 1000 + turn
            got = ask(f"SELECT {want}, SLEEP(0.0005)")[0][0]
            if got != want:
                wrong.append((want, got))
            connections["default"].close()

    gevent.joinall([gevent.spawn(work, number) for number in range(40)], raise_error=True)
    return {"wrong": len(wrong), "opened": pool_states()[0].opened_count}


def trickling_result() -> dict[str, Any]:
    """A large result that comes slowly: how long it holds up the others, with and without reading in a thread."""
    ask("SELECT 1")
    with worst_gap() as guarded:
        rows = len(ask(TRICKLE))
    with worst_gap() as unguarded, mock.patch.object(connection, "is_complete", return_value=True):
        ask(TRICKLE)
    return {"rows": rows, "gap": guarded[0], "gap_without_threads": unguarded[0]}


def large_statement_to_frozen_server() -> dict[str, Any]:
    """A statement that no socket buffer takes, to a server that reads nothing."""
    ask("SELECT 1")
    rendezvous()
    began = time.monotonic()
    with worst_gap() as gap:
        outcome = outcome_of(lambda: ask(f"SELECT LENGTH('{'x' * 12_000_000}')"))
    return {"outcome": outcome, "seconds": time.monotonic() - began, "gap": gap[0]}


def sizes_and_kinds() -> list[Any]:
    """Answers of every size around the buffers' borders, empty ones, errors, and a CALL with two results."""
    lengths = []
    for size in (0, 1, 250, 251, 16_000, 16_384, 17_000, 65_535, 65_536, 300_000, 17_000_000):
        lengths.append(len(ask(f"SELECT REPEAT('y', {size})")[0][0] or ""))
    assert (
        len(ask("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT i FROM n")) == 900
    )
    assert ask("SELECT id FROM notes") == ()
    with connections["default"].cursor() as cursor:
        cursor.execute("INSERT INTO notes VALUES (1, 'a'), (2, 'b')")
        assert cursor.rowcount == 2
        cursor.execute("UPDATE notes SET text = 'a' WHERE id = 1")
        assert cursor.rowcount == 1, "FOUND_ROWS: matched rows are counted, not changed ones"
        cursor.executemany("INSERT INTO notes VALUES (%s, %s)", [(n, "x" * 50) for n in range(10, 4000)])
        assert cursor.rowcount == 3990
        cursor.execute("DROP PROCEDURE IF EXISTS two_results")
        cursor.execute("CREATE PROCEDURE two_results() BEGIN SELECT 1; SELECT SLEEP(0.05), 2; END")
        cursor.execute("CALL two_results()")
        assert cursor.fetchall() == ((1,),)
        assert cursor.nextset()
        assert cursor.fetchall() == ((0, 2),)
        cursor.execute("SELECT 3")
        assert cursor.fetchall() == ((3,),)
    errors = [outcome_of(lambda: ask("SELEKT")), outcome_of(lambda: ask("INSERT INTO notes VALUES (1, 'again')"))]
    assert ask("SELECT COUNT(*) FROM notes") == ((3992,),)
    return [lengths, errors]


def several_statements_in_one() -> str:
    """What becomes of two statements in one string."""
    return outcome_of(lambda: ask("SELECT 1; SELECT 2"))


# -- the pool ------------------------------------------------------------------------------------------------


def full_pool() -> dict[str, Any]:
    """Two connections, both busy for a second; a third one is asked for."""
    busy = [gevent.spawn(ask, "SELECT SLEEP(1)") for _ in range(2)]
    gevent.sleep(0.1)
    began = time.monotonic()
    outcome = outcome_of(lambda: ask("SELECT 1"))
    seconds = time.monotonic() - began
    gevent.joinall(busy, raise_error=True)
    settle()
    return {"outcome": outcome, "seconds": seconds, "afterwards": outcome_of(lambda: ask("SELECT 1"))}


def waiters_are_served() -> dict[str, Any]:
    """More greenlets than connections, none of which need wait too long."""
    greenlets = [gevent.spawn(ask, "SELECT SLEEP(0.05)") for _ in range(12)]
    gevent.joinall(greenlets, raise_error=True)
    settle()
    state = pool_states()[0]
    return {"opened": state.opened_count, "in_use": state.in_use_count, "idle": state.idle_count}


def killed_greenlet(*, guarded: bool = True) -> dict[str, Any]:
    """A greenlet killed while it waits, and the next one's answer."""

    def victim() -> None:
        ask("SELECT SLEEP(0.3), 'the answer of the victim'")

    if guarded:
        greenlet = gevent.spawn(victim)
        gevent.sleep(0.1)
        greenlet.kill()
    else:
        with (
            mock.patch.object(CooperativeConnection, "abandon"),
            mock.patch.object(CooperativeConnection, "is_clean", return_value=True),
        ):
            greenlet = gevent.spawn(victim)
            gevent.sleep(0.1)
            greenlet.kill()
            settle()
    settle()
    before = pool_states()[0]
    answers = []

    def heir() -> None:
        answers.append(ask("SELECT 'the answer of the heir'"))

    outcomes = [outcome_of(heir)]
    return {"answers": answers, "outcomes": outcomes, "idle": before.idle_count, "in_use": before.in_use_count}


def killed_greenlet_unguarded() -> dict[str, Any]:
    """The same with the guard taken out: the connection goes back as if nothing had happened."""
    return killed_greenlet(guarded=False)


def timed_out_greenlet() -> dict[str, Any]:
    """A gevent.Timeout of the caller's own around a statement."""

    def work() -> str:
        try:
            with gevent.Timeout(0.1):
                ask("SELECT SLEEP(1)")
        except gevent.Timeout:
            pass
        return ask("SELECT 'fresh'")[0][0]

    greenlet = gevent.spawn(work)
    greenlet.join()
    return {"answer": greenlet.get(), "opened": pool_states()[0].opened_count}


def query_deadline() -> dict[str, Any]:
    """A statement that takes longer than it may."""
    began = time.monotonic()
    outcome = outcome_of(lambda: ask("SELECT SLEEP(3)"))
    seconds = time.monotonic() - began
    return {"outcome": outcome, "seconds": seconds, "next": ask("SELECT 1")[0][0]}


def many_queries_within_their_deadlines() -> str:
    """Statements that together take far longer than one may, on one connection."""
    return outcome_of(lambda: [ask("SELECT SLEEP(0.1)") for _ in range(12)])


def one_connection_two_greenlets() -> str:
    """A second greenlet that gets hold of a connection on which an answer is awaited."""
    wrapper = connections["default"]
    ask("SELECT 1")
    raw = wrapper.connection
    first = gevent.spawn(raw.query, "SELECT SLEEP(0.2)")
    gevent.sleep(0.05)
    try:
        raw.query("SELECT 2")
    except MySQLdb.InterfaceError as error:
        return str(error.args[1])
    finally:
        first.join()
    return "shared"


def dirty_connection(*, guarded: bool = True) -> dict[str, Any]:
    """A greenlet that ends inside a transaction it began by hand; what the next one finds."""

    def careless() -> None:
        ask("BEGIN")
        ask("INSERT INTO notes VALUES (7, 'never committed')")
        connections["default"].close()

    if guarded:
        gevent.spawn(careless).get()
    else:
        with mock.patch.object(CooperativeConnection, "is_clean", return_value=True):
            gevent.spawn(careless).get()
    settle()
    return {"seen": len(ask("SELECT * FROM notes")), "opened": pool_states()[0].opened_count}


def dirty_connection_unguarded() -> dict[str, Any]:
    """The same without looking at the connection."""
    return dirty_connection(guarded=False)


def error_at_the_end() -> dict[str, Any]:
    """The last answer was an error, which does not tell whether a transaction is open."""

    def work(*, begin: bool) -> None:
        ask("SELECT 1")
        if begin:
            ask("BEGIN")
            ask("INSERT INTO notes VALUES (8, 'never committed')")
        outcome_of(lambda: ask("SELEKT"))
        connections["default"].close()

    gevent.spawn(work, begin=False).get()
    gevent.spawn(work, begin=True).get()
    settle()
    return {"seen": len(ask("SELECT * FROM notes")), "opened": pool_states()[0].opened_count}


def server_restarted_while_idle() -> dict[str, Any]:
    """Idle connections of the pool whose server is killed and started again."""
    gevent.joinall([gevent.spawn(ask, "SELECT SLEEP(0.05)") for _ in range(4)], raise_error=True)
    held = connections["default"]
    ask("SELECT 1")
    rendezvous()
    gevent.sleep(1.1)
    outcomes = [gevent.spawn(outcome_of, lambda: ask("SELECT 1")).get() for _ in range(4)]
    outcomes.append(outcome_of(lambda: ask("SELECT 1")))
    return {"outcomes": outcomes, "same_wrapper": held is connections["default"]}


# -- outages -------------------------------------------------------------------------------------------------


def frozen_server() -> dict[str, Any]:
    """Users of two servers, one of which is frozen for four seconds."""
    for alias in ("default", "other"):
        gevent.joinall([gevent.spawn(ask, "SELECT SLEEP(0.02)", alias) for _ in range(5)], raise_error=True)
    settle()
    rendezvous()
    began = time.monotonic()
    records: dict[str, list[tuple[float, float, str]]] = {"default": [], "other": []}
    running = True

    def use(alias: str) -> None:
        while running:
            at = time.monotonic()
            outcome = outcome_of(lambda: ask("SELECT 1", alias))
            connections[alias].close()
            records[alias].append((at - began, time.monotonic() - at, outcome))
            gevent.sleep(0.01)

    with worst_gap() as gap:
        users = [gevent.spawn(use, alias) for alias in ("default", "other") for _ in range(5)]
        gevent.sleep(4.5)
        while_frozen = len(records["default"])
        rendezvous()
        thawed_at = time.monotonic() - began
        gevent.sleep(2.5)
        running = False
        gevent.joinall(users, raise_error=True)
    frozen = records["default"][:while_frozen]
    recovered = [at for at, _, outcome in records["default"] if at > thawed_at and outcome == "ok"]
    return {
        "gap": gap[0],
        "other_outcomes": sorted({outcome for _, _, outcome in records["other"]}),
        "other_worst_s": max(seconds for _, seconds, _ in records["other"]),
        "other_count": len(records["other"]),
        "frozen_outcomes": sorted({outcome for _, _, outcome in frozen}),
        "frozen_worst_s": max(seconds for _, seconds, _ in frozen),
        "frozen_slow_count": sum(seconds > 0.1 for _, seconds, _ in frozen),
        "frozen_count": len(frozen),
        "recovered_after_s": min(recovered) - thawed_at if recovered else None,
    }


def connecting_to_frozen_server() -> dict[str, Any]:
    """First connections to a server that is frozen, beside another one."""
    ask("SELECT 1", "other")
    rendezvous()
    began = time.monotonic()
    with worst_gap() as gap:
        users = [gevent.spawn(outcome_of, lambda: ask("SELECT 1")) for _ in range(6)]
        gevent.joinall(users)
        seconds = time.monotonic() - began
        other_began = time.monotonic()
        ask("SELECT 1", "other")
        other_s = time.monotonic() - other_began
    return {"outcomes": sorted({user.value for user in users}), "seconds": seconds, "gap": gap[0], "other_s": other_s}


def dead_server() -> dict[str, Any]:
    """A server that refuses connections, and comes back."""
    ask("SELECT 1")
    connections["default"].close()
    rendezvous()
    gevent.sleep(1.1)
    outcomes = [outcome_of(lambda: ask("SELECT 1")) for _ in range(8)]
    rendezvous()
    began = time.monotonic()
    while outcome_of(lambda: ask("SELECT 1")) != "ok":
        gevent.sleep(0.02)
        assert time.monotonic() - began < 10
    return {"outcomes": outcomes, "recovered_after_s": time.monotonic() - began}


def statement_through_proxy() -> list[tuple[str, int]]:
    """A statement that meets the proxy, between two that do not: each one's outcome and error number."""
    outcomes = []
    for sql in ("SELECT 1", "SELECT 7", "SELECT 1"):
        try:
            ask(sql)
        except OperationalError as error:
            outcomes.append((type(error).__name__, error_number(error)))
        else:
            outcomes.append(("ok", 0))
    return outcomes


def lock_waits_and_duplicates() -> dict[str, Any]:
    """Errors of a living server, many in a row, and the breaker."""
    ask("INSERT INTO notes VALUES (1, 'here')")

    def hold() -> None:
        with transaction.atomic(using="default"):
            ask("UPDATE notes SET text = 'held' WHERE id = 1")
            gevent.sleep(2.5)

    holder = gevent.spawn(hold)
    gevent.sleep(0.1)
    waiters = [gevent.spawn(outcome_of, lambda: ask("UPDATE notes SET text = 'x' WHERE id = 1")) for _ in range(5)]
    gevent.joinall(waiters)
    holder.join()
    duplicates = [outcome_of(lambda: ask("INSERT INTO notes VALUES (1, 'again')")) for _ in range(5)]
    return {
        "waits": [waiter.value for waiter in waiters],
        "duplicates": duplicates,
        "breaker": pool_states()[0].breaker,
    }


# -- transactions --------------------------------------------------------------------------------------------


def django_transactions() -> list[str]:
    """What Django promises of atomic blocks; returns which parts were gone through."""
    done: list[str] = []

    def count() -> int:
        return int(ask("SELECT COUNT(*) FROM notes")[0][0])

    with transaction.atomic(using="default"):
        ask("INSERT INTO notes VALUES (1, 'one')")
        transaction.on_commit(lambda: done.append("on_commit"), using="default")
        assert done == []
    assert count() == 1
    try:
        with transaction.atomic(using="default"):
            ask("INSERT INTO notes VALUES (2, 'two')")
            transaction.on_commit(lambda: done.append("never"), using="default")
            raise KeyError  # noqa: TRY301
    except KeyError:
        done.append("rolled back")
    assert count() == 1
    with transaction.atomic(using="default"):
        ask("INSERT INTO notes VALUES (3, 'three')")
        try:
            with transaction.atomic(using="default"):
                ask("INSERT INTO notes VALUES (4, 'four')")
                ask("INSERT INTO notes VALUES (1, 'one again')")
        except IntegrityError:
            done.append("savepoint")
        with transaction.atomic(using="default", durable=False):
            ask("INSERT INTO notes VALUES (5, 'five')")
    assert [row[0] for row in ask("SELECT id FROM notes ORDER BY id")] == [1, 3, 5]
    transaction.set_autocommit(False, using="default")
    ask("INSERT INTO notes VALUES (6, 'six')")
    transaction.rollback(using="default")
    ask("INSERT INTO notes VALUES (7, 'seven')")
    transaction.commit(using="default")
    transaction.set_autocommit(True, using="default")
    assert [row[0] for row in ask("SELECT id FROM notes ORDER BY id")] == [1, 3, 5, 7]
    done.append("manual")
    assert ask("SELECT @@SESSION.autocommit")[0][0] == 1
    return done


def django_test_client() -> list[Any]:
    """Requests through Django's test client, which keeps connections open between them."""
    client = Client()
    answers = [
        client.get("/static").content.decode(),
        client.get("/quick/default").content.decode(),
        client.get("/write/default?id=11").content.decode(),
        client.get("/quick/other").content.decode(),
    ]
    return [answers, ask("SELECT id FROM notes")[0][0]]


def session_facts() -> dict[str, Any]:
    """The session that a connection gets, and how many statements an old and a new user of it cost the server."""
    isolation = "tx_isolation" if connections["default"].mysql_is_mariadb else "transaction_isolation"
    row = ask(
        f"SELECT @@SESSION.{isolation}, @@SESSION.sql_mode, @@SESSION.time_zone, @@SESSION.innodb_lock_wait_timeout, "
        "@@SESSION.character_set_connection, @@SESSION.autocommit"
    )[0]

    def statements() -> int:
        return int(ask("SHOW SESSION STATUS LIKE 'Questions'")[0][1])

    def checkout() -> None:
        ask("SELECT 1")
        connections["default"].close()

    connections["default"].close()
    before = statements()
    connections["default"].close()
    for _ in range(10):
        checkout()
    return {"session": row, "statements_for_ten_users": statements() - before - 1}


def commit_through_proxy() -> dict[str, Any]:
    """One transaction whose COMMIT meets the proxy."""
    seen = {}

    def write() -> None:
        with transaction.atomic(using="default"):
            ask("INSERT INTO notes VALUES (1, 'maybe')")

    began = time.monotonic()
    try:
        write()
    except CommitOutcomeUnknown as error:
        seen = {"error": "CommitOutcomeUnknown", "lost": is_connection_lost(error)}
    except OperationalError as error:
        seen = {"error": type(error).__name__, "lost": is_connection_lost(error)}
    return {**seen, "seconds": time.monotonic() - began, "afterwards": outcome_of(lambda: ask("SELECT 1"))}


def commit_through_proxy_djangos_way() -> dict[str, Any]:
    """The same with Django's own way of switching autocommit back on at the end of a block."""
    with mock.patch.object(base.DatabaseWrapper, "set_autocommit", base.base.DatabaseWrapper.set_autocommit):
        return commit_through_proxy()


def lost_before_commit() -> dict[str, Any]:
    """The server ends the connection between the last statement and COMMIT."""
    error_name, lost = "none", False
    try:
        with transaction.atomic(using="default"):
            ask("INSERT INTO notes VALUES (1, 'not here')")
            number = ask("SELECT CONNECTION_ID()")[0][0]
            killer = connections["default"].copy()
            with killer.cursor() as cursor:
                cursor.execute(f"KILL {number}")
            killer.close()
            time.sleep(0.2)
    except OperationalError as error:
        error_name, lost = type(error).__name__, is_connection_lost(error)
    return {"error": error_name, "lost": lost, "rows": len(ask("SELECT * FROM notes"))}


# -- outside gevent ------------------------------------------------------------------------------------------


def blocking_facts() -> dict[str, Any]:
    """The backend in a process that gevent has not patched."""
    ask("SELECT 1")
    first = connections["default"].connection
    kind = type(first).__name__
    connections["default"].close_if_unusable_or_obsolete()
    began = time.monotonic()
    outcome = outcome_of(lambda: ask("SELECT SLEEP(3)"))
    return {
        "kind": kind,
        "closed_at_the_end": connections["default"].connection is not first and first.broken,
        "outcome": outcome,
        "seconds": time.monotonic() - began,
        "next": outcome_of(lambda: ask("SELECT 1")),
        "pools": len(pool_states()),
    }


def patient_statement() -> dict[str, str]:
    """A statement over the usual limit, with and without patience."""
    hasty = outcome_of(lambda: ask("SELECT SLEEP(1.6)"))
    with connections["default"].patience(10):
        patient = outcome_of(lambda: ask("SELECT SLEEP(1.6)"))
    return {"hasty": hasty, "patient": patient, "afterwards": outcome_of(lambda: ask("SELECT SLEEP(1.6)"))}


def frozen_server_blocking() -> dict[str, Any]:
    """A frozen server seen from a process without gevent."""
    ask("SELECT 1")
    rendezvous()
    outcomes, seconds = [], []
    for _ in range(6):
        began = time.monotonic()
        outcomes.append(outcome_of(lambda: ask("SELECT 1")))
        connections["default"].close()
        seconds.append(time.monotonic() - began)
    return {"outcomes": outcomes, "seconds": seconds}


def pool_key() -> bool:
    """Whether two aliases of one server have pools of their own."""
    for alias in ("default", "other"):
        ask("SELECT 1", alias)
    wrappers = [connections[alias] for alias in ("default", "other")]
    pools = {id(pool_of(wrapper.alias, wrapper.server, wrapper.pool_options)) for wrapper in wrappers}
    return len(pools) == 2 and len(pool_states()) == 2
