"""Limits over all of gunicorn's workers, changed while they run, with and without Redis."""

import secrets
import signal
import time
from collections import Counter
from collections.abc import Iterator

import pytest
import requests

from tests.e2e.stack import PORT_BASE, Shopper, Stack, all_at_once, wait_for

PER_SECOND, BURST = 5, 40
WORKERS = 2


def _set(stack: Stack, **values: int) -> None:
    """Set what the staff may set in the admin; `__` stands for a dot. Whatever is not named has its default."""
    rows = {f"limits.{name.replace('__', '.')}": str(value) for name, value in values.items()}
    told = stack.manage(
        "shell",
        "--no-imports",
        "-c",
        "from infra.dynamic.models import DynamicSetting as S; S.objects.all().delete(); "
        f"[S.objects.create(name=name, value=value) for name, value in {rows!r}.items()]",
    )
    assert told.returncode == 0, told.stderr
    time.sleep(3)  # every process reads the settings every two seconds


@pytest.fixture(scope="module")
def _strict(stack) -> Iterator[Stack]:
    stack.wait_until_ok()
    _set(stack, user__per_second=PER_SECOND, user__burst=BURST)
    yield stack
    _set(stack)


@pytest.fixture
def strict(_strict, healthy) -> Stack:
    """A stack in which a user may send little."""
    return healthy


def _ordinary_shopper(stack: Stack) -> Shopper:
    name, password = f"eve-{secrets.token_hex(6)}", secrets.token_hex(12)
    made = requests.post(stack.api + "/auth/register", json={"username": name, "password": password}, timeout=12)
    pair = requests.post(stack.api + "/auth/token", json={"login": name, "password": password}, timeout=12)
    return Shopper(stack, made.json()["user_id"], pair.json()["access"])


def _flood(shopper: Shopper, *, count: int = 240) -> tuple[Counter[int], float, float]:
    """Ask from many connections, half of them to gunicorn itself; the answers, the slowest, and the whole time."""
    slowest = [0.0]
    lies = [{}, {"X-Forwarded-For": "127.0.0.1"}, {"X-Real-IP": "127.0.0.2"}, {"Forwarded": "for=127.0.0.1"}]

    def ask_in_a_row(number: int) -> Counter[int]:
        counted: Counter[int] = Counter()
        headers = {"Authorization": f"Bearer {shopper.access}", **lies[number % len(lies)]}
        base = f"http://127.0.0.1:{PORT_BASE + number % 2}/api/v1"
        with requests.Session() as session:
            for _ in range(count // 8):
                began = time.monotonic()
                answer = session.get(base + "/users/me", headers=headers, timeout=12)
                slowest[0] = max(slowest[0], time.monotonic() - began)
                counted[answer.status_code] += 1
                if answer.status_code == 429:
                    assert answer.json()["code"] == "rate_limited"
                    assert int(answer.headers["Retry-After"]) >= 1
        return counted

    began = time.monotonic()
    rows = all_at_once([lambda number=number: ask_in_a_row(number) for number in range(8)])
    return sum(rows, Counter()), slowest[0], time.monotonic() - began


def test_an_ordinary_user_is_held_to_the_limit_over_all_workers_and_a_bench_shopper_is_not(strict):
    counted, _, seconds = _flood(_ordinary_shopper(strict))
    free = WORKERS * (BURST // 20)
    assert BURST <= counted[200] <= BURST + free + PER_SECOND * seconds + 1
    assert counted.keys() == {200, 429}
    [bench] = strict.shoppers(1)
    assert _flood(bench)[0].keys() == {200}


def test_without_redis_each_worker_holds_to_the_limit_and_nobody_waits(strict):
    shopper = _ordinary_shopper(strict)
    # when Redis is there and does not answer
    strict.signal("redis-cache", signal.SIGSTOP)
    counted, slowest, seconds = _flood(shopper)
    # then
    free = WORKERS * (BURST // 20)
    assert BURST <= counted[200] <= WORKERS * (BURST + PER_SECOND * seconds) + free + 1
    assert counted.keys() == {200, 429}
    assert slowest < 4.0
    [sku], [bench] = strict.skus(1), strict.shoppers(1)
    assert bench.place((sku, 1)).status_code == 201
    strict.signal("redis-cache", signal.SIGCONT)


@pytest.mark.usefixtures("_strict")
def test_a_worker_that_has_enough_to_do_refuses_at_once_and_has_taken_nothing(healthy):
    shoppers = healthy.shoppers(12)
    [sku] = healthy.skus(1)
    healthy.set_stock(sku, count=1000)
    _set(healthy, in_flight=1)
    refused = []
    for _ in range(5):
        answers = all_at_once([lambda shopper=shopper: shopper.place((sku, 1)) for shopper in shoppers])
        refused += [answer for answer in answers if answer.status_code != 201]
    assert refused
    assert {(answer.status_code, answer.json()["code"]) for answer in refused} == {(503, "overloaded")}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    assert healthy.ready() == "ok", "health checks always pass"
    assert shoppers[0].place_until_settled((sku, 1)).status_code == 201
    scrape = requests.get(healthy.staff + "/metrics", timeout=12).text
    assert 'floodgate_requests_refused_total{layer="in_flight"}' in scrape
    placed = 60 - len(refused) + 1

    def left() -> int:
        page = requests.get(healthy.api + "/products", params={"q": sku, "limit": 100}, timeout=12).json()
        return next(row["available"] for product in page["results"] for row in product["skus"] if row["sku"] == sku)

    wait_for(f"{1000 - placed} units left", lambda: left() == 1000 - placed, within_s=10)
