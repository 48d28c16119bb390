"""Relays, consumers, Celery and the durable Redis die in mid-flow: nothing is lost, nothing is doubled, order is kept.

Real processes, killed with -9 by their ids, over both shards and a Redis of the test's own.
"""

import os
import random
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.conf import settings

from infra.events.models import DeadLetter
from infra.followups.models import FollowUpRow
from infra.followups.services import done, due, schedule
from infra.outbox.models import OutboxEvent, Relay
from infra.sharding.places import place_of_order
from tests.factories.events import (
    append_versions,
    log_effect,
    logged_versions,
    make_log_tables,
    order_on,
    orders_on_both_shards,
    wait_until,
)
from tests.factories.processes import Processes, RedisServer, children_of

pytestmark = pytest.mark.usefixtures("clean_tables")
MANAGE = "manage.py"


@pytest.fixture
def clean_tables(committed: None) -> None:
    make_log_tables()
    for alias in settings.SHARD_ALIASES:
        for model in (OutboxEvent, Relay, DeadLetter, FollowUpRow):
            model.objects.using(alias).all().delete()


@pytest.fixture
def durable_redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def processes(tmp_path: Path, durable_redis: RedisServer) -> Iterator[Processes]:
    processes = Processes(tmp_path, durable_redis.url)
    yield processes
    processes.kill_all()


def _start_relay(processes, alias, number=0):
    processes.start(f"relay-{alias}-{number}", MANAGE, "run_relay", "--alias", alias)


def _start_consumer(processes, number, *groups):
    options = [option for group in groups or ("log",) for option in ("--group", group)]
    processes.start(f"consumer-{number}", MANAGE, "run_consumers", *options)


def _assert_complete(orders, count):
    """The checker over the consumed log: each aggregate's versions without gap or repeat, in order."""
    wanted = {order.order_id: list(range(1, count + 1)) for order in orders}
    wait_until(
        lambda: sum(map(len, logged_versions("log", orders).values())) >= count * len(orders),
        timeout_s=40,
        what="all effects",
    )
    assert logged_versions("log", orders) == wanted


def test_a_relay_killed_between_publish_and_mark_doubles_no_effect(processes, tmp_path):
    orders = orders_on_both_shards(6)
    for order in orders:
        append_versions(order, [1, 2, 3])
    stopped_at = tmp_path / "published"
    processes.start("relay-stalls", "-m", "tests.factories.event_relay", "shard_0", str(stopped_at))
    wait_until(stopped_at.exists, what="the relay has published and not marked")
    assert OutboxEvent.objects.using("shard_0").filter(sent_at=None).count() == 9

    processes.kill("relay-stalls")
    for alias in settings.SHARD_ALIASES:
        _start_relay(processes, alias)
    _start_consumer(processes, 0, "log", "bare")

    _assert_complete(orders, 3)
    # The control: the group without an inbox saw the batch of the killed relay twice, in order each time.
    near = [order for order in orders if order.alias == "shard_0"]
    wait_until(
        lambda: all(len(versions) == 6 for versions in logged_versions("bare", near).values()), what="the repeats"
    )
    assert set(map(tuple, logged_versions("bare", near).values())) == {(1, 2, 3, 1, 2, 3)}


def test_kills_of_relays_consumers_and_redis_lose_and_double_nothing(processes, durable_redis):
    dice = random.Random(20261122)
    orders = orders_on_both_shards(16)
    victims = {f"relay-{alias}-{number}": (alias, number) for alias in settings.SHARD_ALIASES for number in (0, 1)}
    for alias, number in victims.values():
        _start_relay(processes, alias, number)
    for number in (0, 1):
        _start_consumer(processes, number)

    faults = iter(["relay", "consumer", "empty", "relay", "kill redis", "consumer", "empty", "relay"])
    count = 48
    for version in range(1, count + 1):
        for order in orders:
            append_versions(order, [version])
        time.sleep(0.1)
        if version % 6 == 0:
            fault = next(faults)
            if fault == "relay":
                name = dice.choice(sorted(victims))
                processes.kill(name)
                _start_relay(processes, *victims[name])
            elif fault == "consumer":
                number = dice.randrange(2)
                processes.kill(f"consumer-{number}")
                _start_consumer(processes, number)
            elif fault == "empty":
                durable_redis.empty()
            else:
                durable_redis.kill()
                time.sleep(0.5)
                durable_redis.start()

    _assert_complete(orders, count)
    for name in ("consumer-0", "consumer-1", *victims):
        assert "Traceback" not in processes.output(name), processes.output(name)
    assert [DeadLetter.objects.using(alias).count() for alias in settings.SHARD_ALIASES] == [0, 0]


def test_relay_and_consumer_leave_in_order_when_asked(processes):
    orders = orders_on_both_shards(2)
    _start_relay(processes, "shard_0")
    _start_consumer(processes, 0)
    append_versions(orders[0], [1])
    wait_until(lambda: logged_versions("log", orders)[orders[0].order_id] == [1], what="the first effect")

    assert processes.stop("relay-shard_0-0") == 0
    assert processes.stop("consumer-0") == 0
    began_at = time.monotonic()
    _start_relay(processes, "shard_0", 1)
    _start_consumer(processes, 1)
    append_versions(orders[0], [2])
    wait_until(lambda: logged_versions("log", orders)[orders[0].order_id] == [1, 2], what="the second effect")

    assert time.monotonic() - began_at < 15


def _owe(order):
    now = datetime.now(UTC)
    schedule(place_of_order(order.order_id), kind="celery_test", order_id=order.order_id, due_at=now, now=now)


def _celery_effects(orders):
    return {order_id: len(versions) for order_id, versions in logged_versions("celery", orders).items()}


def test_kills_of_worker_beat_and_broker_leave_each_task_done_once(processes, durable_redis):
    celery = ("-m", "celery", "-A", "tests.factories.event_celery")

    def start_worker():
        processes.start("worker", *celery, "worker", "--concurrency", "2", "--without-gossip", "--without-mingle")

    def start_beat():
        processes.start("beat", *celery, "beat", "--pidfile", "")

    start_worker()
    start_beat()
    orders = orders_on_both_shards(40)
    for order in orders:
        _owe(order)
    wait_until(lambda: sum(_celery_effects(orders).values()) > 5, what="the worker works")

    processes.kill("worker")
    done_by_then = sum(_celery_effects(orders).values())
    assert done_by_then < len(orders)
    start_worker()
    wait_until(lambda: sum(_celery_effects(orders).values()) > done_by_then, what="the next worker works")

    for fault in (durable_redis.empty, durable_redis.kill):
        more = orders_on_both_shards(10)
        for order in more:
            _owe(order)
        orders += more
        fault()
    time.sleep(0.5)
    durable_redis.start()
    processes.kill("beat")
    start_beat()

    wait_until(lambda: sum(_celery_effects(orders).values()) >= len(orders), timeout_s=80, what="all work is done")
    time.sleep(1)
    assert set(_celery_effects(orders).values()) == {1}
    assert not FollowUpRow.objects.using("shard_0").filter(kind="celery_test").exists()


def test_a_task_whose_process_dies_in_the_middle_is_given_again_without_beat(processes):
    """Late acknowledgement: a dead child's task comes back at once, a dead worker's after the visibility time."""
    celery = ("-m", "celery", "-A", "tests.factories.event_celery")

    def start_worker():
        processes.start("worker", *celery, "worker", "--concurrency", "1", "--without-gossip", "--without-mingle")

    def owe_and_send():
        orders = orders_on_both_shards(30)
        for order in orders:
            _owe(order)
        processes.start("call", *celery, "call", "tests.drain")
        wait_until(lambda: sum(_celery_effects(orders).values()) > 0, what="the task is in its middle")
        assert sum(_celery_effects(orders).values()) < len(orders)
        return orders

    start_worker()
    orders = owe_and_send()
    [child] = children_of(processes.pid("worker"))
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: set(_celery_effects(orders).values()) == {1}, what="the child's task is done")

    orders = owe_and_send()
    processes.kill("worker")
    start_worker()
    wait_until(lambda: set(_celery_effects(orders).values()) == {1}, what="the worker's task is done")


@pytest.mark.parametrize(("guarded", "effects"), [(True, 1), (False, 2)])
def test_of_two_drainers_with_the_same_work_one_does_it_because_settling_is_checked(guarded, effects):
    """With `guarded` off: the negative control, the effect without the compare-and-set of `done`."""
    order = order_on("shard_1")
    _owe(order)
    found = [due("shard_1", kind="celery_test", now=datetime.now(UTC)) for _ in range(2)]
    for [follow_up] in found:
        with place_of_order(order.order_id).atomic():
            if done(follow_up) or not guarded:
                log_effect(follow_up, group="celery")

    assert _celery_effects([order]) == {order.order_id: effects}
