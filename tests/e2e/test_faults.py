"""Processes killed, stopped and emptied under the running stack: nothing is lost and everything recovers by itself."""

import signal
import time

import pytest
import redis
import requests

from tests.e2e.stack import PORT_BASE, all_at_once, wait_for

QUICK_S = 4.0


@pytest.fixture(scope="module")
def by_shard(stack):
    return stack.shoppers_by_shard(8)


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_dead_shard_touches_only_its_own_users(healthy, by_shard, fault):
    # given shoppers on both shards
    [sku] = healthy.skus(1)
    healthy.set_stock(sku, count=1000)
    untouched, struck = by_shard["shard_0"], by_shard["shard_1"]

    # when the second shard's server is gone
    pid = healthy.signal("mariadb-shard-1", signal.SIGSTOP)
    if fault is signal.SIGKILL:
        healthy.signal("mariadb-shard-1", signal.SIGKILL)
    struck[0].place((sku, 1))  # the first to meet it may wait for the time limit

    # then users of the first shard notice nothing
    for _ in range(5):
        started_s = time.monotonic()
        answer = untouched[0].place((sku, 1))
        assert answer.status_code == 201, answer.text
        assert time.monotonic() - started_s < 1.5
    # and its own users get a 503 within the time limit, or their order once it is back
    answers = [struck[n % len(struck)].call("GET", "/orders") for n in range(6)]
    assert {answer.status_code for answer in answers} <= {503, 200}
    if fault is signal.SIGSTOP:
        started_s = time.monotonic()
        assert struck[0].call("GET", "/orders").status_code == 503
        assert time.monotonic() - started_s < QUICK_S
        assert healthy.ready() == "degraded"
        healthy.signal("mariadb-shard-1", signal.SIGCONT)
    assert pid

    # and after its return all goes on without a restart
    answer = struck[0].place_until_settled((sku, 1), within_s=40)
    assert answer.status_code == 201, answer.text
    healthy.audit()


def test_without_the_global_server_placing_answers_503_and_reading_goes_on(healthy, by_shard):
    # given an order and a product that has been read
    [sku] = healthy.skus(1)
    shopper = by_shard["shard_0"][0]
    order = shopper.place((sku, 1)).json()
    # when the global server stops answering
    healthy.signal("mariadb-global", signal.SIGSTOP)
    answers = [shopper.place((sku, 1)) for _ in range(3)]
    # then orders are not placed, and are read all the same
    assert {answer.status_code for answer in answers} == {503}
    assert {answer.json()["code"] for answer in answers} <= {"shard_unavailable", "overloaded", "outcome_unknown"}
    assert shopper.call("GET", f"/orders/{order['id']}").status_code == 200
    assert wait_for("degraded", lambda: healthy.ready() == "degraded", within_s=20)
    # and it goes on by itself
    healthy.signal("mariadb-global", signal.SIGCONT)
    assert shopper.place_until_settled((sku, 1)).status_code == 201
    healthy.audit()


@pytest.mark.parametrize("emptied", [False, True], ids=["killed", "killed and emptied"])
@pytest.mark.parametrize("name", ["redis-durable", "redis-cache"])
def test_a_redis_that_is_killed_loses_nothing(healthy, by_shard, name, emptied):
    # given orders under way
    [sku] = healthy.skus(1)
    healthy.set_stock(sku, count=1000)
    shoppers = by_shard["shard_0"] + by_shard["shard_1"]
    # when the server is killed between them
    before = [shopper.place((sku, 1)) for shopper in shoppers]
    if emptied:
        healthy.kill_and_empty(name)
    else:
        healthy.signal(name, signal.SIGKILL)
    during = [shopper.place_until_settled((sku, 1)) for shopper in shoppers]
    paying = shoppers[0]
    paying.pay(during[0].json()["id"])
    # then every order is placed, and events and tasks go on
    assert {answer.status_code for answer in before + during} == {201}
    paying.wait_for_status(during[0].json()["id"], "paid", within_s=60)
    healthy.audit()


def test_an_emptied_durable_redis_loses_no_event_and_no_task(healthy, by_shard):
    # given orders whose events and tasks are under way
    [sku] = healthy.skus(1)
    healthy.set_stock(sku, count=1000)
    shoppers = by_shard["shard_0"] + by_shard["shard_1"]
    placed = [shopper.place((sku, 1)).json()["id"] for shopper in shoppers]
    for shopper, order_id in zip(shoppers, placed, strict=True):
        shopper.pay(order_id)
    # when everything in the durable Redis is deleted
    durable = redis.Redis(port=PORT_BASE + 379, socket_timeout=5)
    durable.flushall()
    # then every order is paid and its stock settled, and what is published again has no second effect
    for shopper, order_id in zip(shoppers, placed, strict=True):
        shopper.wait_for_status(order_id, "paid", within_s=60)
    healthy.audit()


def test_killed_workers_lose_no_acknowledged_order(healthy, by_shard):
    # given a flood of orders
    [sku] = healthy.skus(1)
    healthy.set_stock(sku, count=1000)
    shoppers = by_shard["shard_0"] + by_shard["shard_1"]

    def order_in_a_row(shopper):
        return [shopper.place_until_settled((sku, 1)).status_code for _ in range(6)]

    # when gunicorn's master, the Celery worker, a relay and a consumer are killed in the middle of it
    def kill_all():
        for name in ("gunicorn", "celery-worker", "relay-shard-0", "consumer-0"):
            time.sleep(0.5)
            healthy.signal(name, signal.SIGKILL)

    *answers, _ = all_at_once([*[lambda shopper=shopper: order_in_a_row(shopper) for shopper in shoppers], kill_all])

    # then every buyer got the orders asked for, and nothing is left half done
    assert {status for row in answers for status in row} == {201}
    healthy.wait_until_ok()
    healthy.audit()


def test_status_names_every_running_process(stack):
    names = set(stack.pids())
    assert {"gunicorn", "celery-worker", "celery-beat", "mariadb-global", "mariadb-shard-0", "mariadb-shard-1"} <= names
    assert {"redis-durable", "redis-cache", "sandbox"} <= names
    assert any(name.startswith("relay") for name in names)
    assert any(name.startswith("consumer") for name in names)


def test_admin_and_metrics_are_not_on_the_public_port(stack):
    assert requests.get(stack.public + "/metrics", timeout=10).status_code == 404
    assert requests.get(stack.public + "/admin/", timeout=10).status_code == 404
    scrape = requests.get(stack.staff + "/metrics", timeout=10)
    assert scrape.status_code == 200
    assert "floodgate_http_requests_total" in scrape.text
