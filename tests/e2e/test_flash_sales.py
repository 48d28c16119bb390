"""A flash sale over HTTP while its processes are killed: exactly the quota is sold, and everyone else is told why."""

import secrets
import signal
import time
from collections import Counter

import pytest
import requests

from tests.e2e.stack import Shopper, Stack, all_at_once, must_be_repeated, wait_for

BUYERS = 60
UNITS = 20
SETTLED_WITHIN_S = 90


def create_sale(stack: Stack, sku: str, mode: str) -> str:
    figures = ("--price", "0.50", "--quota", str(UNITS), "--per-user-limit", "1", "--lasts", "300", "--mode", mode)
    done = stack.manage("flash_sale", "create", "--sku", sku, *figures)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split()[-1]


def settled(buyer: Shopper, method: str, path: str, **request: object) -> requests.Response:
    """Send a request until the answer is one that the contract does not ask to repeat."""

    def attempt() -> list[requests.Response]:
        try:
            answer = buyer.call(method, path, **request)
        except requests.RequestException:
            return []
        if must_be_repeated(answer):
            time.sleep(int(answer.headers["Retry-After"]))
            return []
        return [answer]

    [answer] = wait_for("a settled answer", attempt, within_s=SETTLED_WITHIN_S)
    return answer


def buy(buyer: Shopper, sale: str, sku: str, *, after_s: float) -> str:
    """Return `ordered`, or the code of the refusal, whether told at once or by a ticket."""
    time.sleep(after_s)
    body = {"sku": sku, "quantity": 1, "address_id": buyer.address_id}
    answer = settled(buyer, "POST", f"/flash-sales/{sale}/orders", key=secrets.token_hex(12), json=body)
    if answer.status_code != 202:
        return "ordered" if answer.status_code == 201 else answer.json()["code"]
    path = f"/flash-sales/tickets/{answer.json()['ticket']}"

    def outcome() -> str:
        view = settled(buyer, "GET", path).json()
        return "" if view["status"] == "waiting" else view.get("code", view["status"])

    return wait_for("the end of a ticket", outcome, within_s=SETTLED_WITHIN_S, every_s=0.5)


@pytest.mark.parametrize(
    ("mode", "victims"),
    [("direct", ("gunicorn", "mariadb-shard-0")), ("queued", ("celery-worker", "redis-durable"))],
)
def test_a_sale_sells_exactly_its_quota_while_processes_are_killed(healthy, mode, victims):
    # given a sale of twenty units, and sixty buyers who come within a few seconds
    [sku] = healthy.skus(1)
    healthy.set_stock(sku, count=UNITS)
    sale = create_sale(healthy, sku, mode)
    buyers = healthy.shoppers(BUYERS)

    # when they buy, and processes are killed in between
    def kill() -> str:
        for victim in victims:
            time.sleep(1.0)
            healthy.signal(victim, signal.SIGKILL)
        return "killed"

    outcomes = all_at_once(
        [kill, *(lambda n=n, buyer=buyer: buy(buyer, sale, sku, after_s=n * 0.05) for n, buyer in enumerate(buyers))]
    )

    # then twenty have an order, the others are told that it is sold out, and the books agree
    assert Counter(outcomes[1:]) == {"ordered": UNITS, "sold_out": BUYERS - UNITS}
    shown = requests.get(f"{healthy.api}/flash-sales/{sale}", timeout=10).json()
    assert shown["items"][0]["left"] == 0
    healthy.audit()
