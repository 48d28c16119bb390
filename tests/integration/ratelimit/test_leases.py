"""Buckets that several processes draw from: the sum is the limit, calls are few, and a dead Redis holds nobody up."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from django.conf import settings

from infra.ratelimit.leases import Grant, LeasedBuckets, LeaseStore, Limit
from tests.factories.processes import RedisServer
from tests.integration.mysql.servers import free_port

BURST = 240
SLOW = Limit(per_second=1, burst=BURST)


class CountingStore(LeaseStore):
    """The store, with a count of its calls."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.call_count = 0

    def lease(self, name: str, limit: Limit, *, wanted: int) -> Grant | None:
        self.call_count += 1
        return super().lease(name, limit, wanted=wanted)


@pytest.fixture
def store() -> CountingStore:
    return CountingStore(settings.REDIS_CACHE_URL)


@pytest.fixture
def make_buckets(store: CountingStore) -> Callable[..., LeasedBuckets[str]]:
    """Buckets as one process has them; those of one test share their names in Redis."""
    kind = f"test-{secrets.token_hex(6)}"

    def make(limit: Limit | None = SLOW, *, store: LeaseStore = store) -> LeasedBuckets[str]:
        return LeasedBuckets(kind, lambda key: limit, store=lambda: store)

    return make


def passed(buckets: LeasedBuckets[str], count: int, *, key: str = "a") -> int:
    return sum(buckets.take(key) == 0 for _ in range(count))


def test_two_processes_together_let_through_what_one_bucket_holds(make_buckets, store) -> None:
    first, second = make_buckets(), make_buckets()
    began = time.monotonic()
    together = sum(passed(buckets, 1) for _ in range(400) for buckets in (first, second))
    free = 2 * SLOW.free_lot
    assert BURST <= together <= BURST + free + refilled(began)


def test_what_one_process_has_leased_and_not_used_leaves_the_other_a_full_burst_less_a_lot(make_buckets) -> None:
    first, second = make_buckets(), make_buckets()
    passed(first, SLOW.free_lot + 1)
    assert passed(second, 400) >= BURST - SLOW.largest_lot


def test_a_request_costs_far_less_than_a_call(make_buckets, store) -> None:
    buckets = make_buckets()
    assert passed(buckets, BURST) == BURST
    assert store.call_count <= BURST / 15
    # those who come once or twice cost none
    store.call_count = 0
    assert sum(passed(buckets, 2, key=f"user-{n}") for n in range(100)) == 200
    assert store.call_count == 0


def test_a_flood_of_refusals_is_not_a_flood_of_calls(make_buckets, store) -> None:
    buckets = make_buckets(Limit(per_second=1, burst=1))
    assert passed(buckets, 1) == 1
    store.call_count = 0
    began = time.monotonic()
    assert passed(buckets, 20_000) <= refilled(began)
    assert store.call_count <= 2 + (time.monotonic() - began) / 0.05


def test_a_bucket_fills_again_at_its_rate(make_buckets) -> None:
    buckets = make_buckets(Limit(per_second=50, burst=20))
    assert passed(buckets, 100) >= 20
    began = time.monotonic()
    count = 0
    while (gone_s := time.monotonic() - began) < 1.0:
        count += passed(buckets, 1)
        time.sleep(0.001)
    assert 30 <= count <= 50 * gone_s + 5
    wait_s = 0.0
    while not wait_s:
        wait_s = buckets.take("a")
    assert 0 < wait_s <= 0.1


def test_keys_do_not_share(make_buckets) -> None:
    buckets = make_buckets(Limit(per_second=1, burst=2))
    began = time.monotonic()
    counts = [passed(buckets, 5, key=key) for key in ("a", "b")]
    assert all(2 <= count <= 2 + refilled(began) for count in counts)


def test_without_a_limit_everything_passes_and_a_new_limit_holds_at_once() -> None:
    limit: list[Limit | None] = [None]
    buckets: LeasedBuckets[str] = LeasedBuckets(
        f"test-{secrets.token_hex(6)}", lambda key: limit[0], store=lambda: LeaseStore(settings.REDIS_CACHE_URL)
    )
    assert passed(buckets, 1000) == 1000
    limit[0] = Limit(per_second=1, burst=3)
    buckets.forget()
    began = time.monotonic()
    assert 3 <= passed(buckets, 1000) <= 3 + refilled(began)
    limit[0] = None
    buckets.forget()
    assert passed(buckets, 1000) == 1000


def test_many_threads_of_one_key_get_no_more_than_the_bucket_holds(make_buckets, store) -> None:
    buckets = make_buckets()
    began = time.monotonic()
    counts: list[int] = []
    barrier = threading.Barrier(8)

    def take() -> None:
        barrier.wait()
        counts.append(passed(buckets, 100))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert BURST <= sum(counts) <= BURST + SLOW.free_lot + refilled(began)
    assert store.call_count < 40, "one asks at a time, the others wait for its lot"


def refilled(began: float) -> int:
    """What a bucket of one request a second may have gained since."""
    return int(time.monotonic() - began) + 1


# -- without Redis -------------------------------------------------------------------------------------------


def test_without_redis_each_process_holds_to_the_limit_by_itself(make_buckets) -> None:
    nowhere = LeaseStore(f"redis://127.0.0.1:{free_port()}/0")
    first, second = make_buckets(store=nowhere), make_buckets(store=nowhere)
    began = time.monotonic()
    counts = [passed(buckets, 1000) for buckets in (first, second)]
    assert time.monotonic() - began < 1.0
    for count in counts:
        assert BURST <= count <= BURST + SLOW.free_lot + refilled(began)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.resume()
    server.kill()


def test_a_redis_that_hangs_delays_few_and_is_asked_again_when_it_is_back(make_buckets, own_redis) -> None:
    store = CountingStore(own_redis.url)
    buckets = make_buckets(Limit(per_second=10_000, burst=8), store=store)
    assert buckets.take("a") == 0
    own_redis.stop()
    began = time.monotonic()
    for n in range(50):
        assert buckets.take(f"hung-{n}") == 0
    # three time limits of a tenth of a second until the breaker opens, and nothing after that
    assert time.monotonic() - began < 0.8
    own_redis.resume()
    time.sleep(2.1)
    assert buckets.take("back") == 0
    assert own_redis.client.keys("floodgate:limit:*:back")


def test_a_bucket_is_forgotten_by_redis_once_it_would_be_full(make_buckets, store) -> None:
    buckets = make_buckets(Limit(per_second=100, burst=10))
    passed(buckets, 10)
    client = redis.Redis.from_url(settings.REDIS_CACHE_URL)
    [name] = client.keys(f"floodgate:limit:{buckets._kind}:*")
    assert 0 < client.pttl(name) <= 1200


def test_the_usual_request_costs_microseconds(make_buckets) -> None:
    buckets = make_buckets(Limit(per_second=1_000_000, burst=1_000_000))
    buckets.take("a")
    began = time.perf_counter()
    passed(buckets, 20_000)
    assert (time.perf_counter() - began) / 20_000 < 20e-6
