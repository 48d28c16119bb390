"""The in-process cache: one load a key, bounded time and size, old values while the source is away."""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest

from infra.caching.l1 import L1Cache


class Source:
    """A source that counts its loads, can fail, and can be held up."""

    def __init__(self, values: Mapping[str, int]) -> None:
        self.values = dict(values)
        self.loads: list[list[str]] = []
        self.error: Exception | None = None
        self.gate: Event | None = None
        self.entered = Event()

    def load_many(self, keys: Collection[str]) -> dict[str, int]:
        self.loads.append(sorted(keys))
        self.entered.set()
        if self.gate is not None:
            assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        return {key: self.values[key] for key in keys if key in self.values}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def source() -> Source:
    return Source({"a": 1, "b": 2, "c": 3})


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make_cache(source: Source, clock: Clock, *, size: int = 100) -> L1Cache[str, int]:
    return L1Cache(source.load_many, ttl_s=2, size=size, absent_ttl_s=1, stale_s=60, retry_s=1, clock=clock)


def test_a_value_is_loaded_once_within_its_time_and_again_after(source: Source, clock: Clock) -> None:
    cache = make_cache(source, clock)
    assert [cache.get("a"), cache.get("a")] == [1, 1]
    source.values["a"] = 9
    clock.now += 1.99
    assert cache.get("a") == 1
    clock.now += 0.01
    assert cache.get("a") == 9
    assert source.loads == [["a"], ["a"]]


def test_the_time_counts_from_the_start_of_the_load(source: Source, clock: Clock) -> None:
    """Else a slow load would make values older than the bound that is promised."""
    cache = make_cache(source, clock)
    slow = source.load_many

    def load_many(keys: Collection[str]) -> dict[str, int]:
        found = slow(keys)
        clock.now += 1.5
        return found

    cache._load_many = load_many
    cache.get("a")
    clock.now += 0.5
    cache.get("a")
    assert len(source.loads) == 2


def test_absent_keys_are_remembered_as_absent(source: Source, clock: Clock) -> None:
    cache = make_cache(source, clock)
    assert [cache.get("nothing"), cache.get("nothing")] == [None, None]
    assert len(source.loads) == 1
    source.values["nothing"] = 0
    clock.now += 1
    assert cache.get("nothing") == 0


def test_concurrent_misses_of_a_key_cause_one_load(source: Source, clock: Clock) -> None:
    cache = make_cache(source, clock)
    source.gate = Event()
    start = Barrier(8)

    def read() -> int | None:
        start.wait(10)
        return cache.get("a")

    with ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(read) for _ in range(8)]
        assert source.entered.wait(10)
        source.gate.set()
        assert [reader.result(10) for reader in readers] == [1] * 8
    assert source.loads == [["a"]]


def test_many_keys_are_loaded_in_one_batch_without_those_that_are_fresh(source: Source, clock: Clock) -> None:
    cache = make_cache(source, clock)
    cache.get("a")
    assert cache.get_many(["a", "b", "nothing", "c"]) == {"a": 1, "b": 2, "c": 3}
    assert source.loads == [["a"], ["b", "c", "nothing"]]


def test_a_load_takes_along_other_keys_that_were_read_and_are_over_their_time(source: Source, clock: Clock) -> None:
    cache = make_cache(source, clock)
    cache.get_many(["a", "b", "c"])
    cache.get("b")
    clock.now += 2
    cache.get("a")
    assert source.loads[-1] == ["a", "b"]  # c was loaded and never read since
    cache.get("b")
    assert len(source.loads) == 2


def test_a_load_takes_along_what_will_soon_be_over_its_time(source: Source, clock: Clock) -> None:
    cache = L1Cache(source.load_many, ttl_s=5.0, size=100, max_idle_loads=1, ahead_s=1.0, clock=clock)
    cache.get("a")
    clock.now += 0.9
    cache.get("b")
    clock.now += 0.2
    cache.get("c")
    clock.now += 3.95  # a is over its time, b will be within the second, c not yet

    cache.get("a")

    assert source.loads[3:] == [["a", "b"]]


def test_a_key_that_nobody_reads_is_taken_along_for_so_many_loads_only(source: Source, clock: Clock) -> None:
    cache = L1Cache(source.load_many, ttl_s=1.0, size=10, max_idle_loads=2, clock=clock)
    cache.get_many(["a", "b"])
    for _ in range(4):
        clock.now += 2
        cache.get("a")
    assert source.loads == [["a", "b"], ["a", "b"], ["a", "b"], ["a"], ["a"]]


def test_while_the_source_fails_the_last_value_is_given_out_and_the_source_rarely_asked(
    source: Source, clock: Clock
) -> None:
    cache = make_cache(source, clock)
    cache.get("a")
    source.error = ConnectionError("away")
    clock.now += 10
    assert [cache.get("a") for _ in range(5)] == [1] * 5
    assert len(source.loads) == 2
    with pytest.raises(ConnectionError):
        cache.get("b")

    source.error, source.values["a"] = None, 7
    clock.now += 1
    assert cache.get("a") == 7


def test_an_old_value_is_not_given_out_for_ever(source: Source, clock: Clock) -> None:
    cache = make_cache(source, clock)
    cache.get("a")
    source.error = ConnectionError("away")
    clock.now += 62
    with pytest.raises(ConnectionError):
        cache.get("a")


def test_while_the_source_fails_nobody_waits_for_the_one_who_asks_it(source: Source, clock: Clock) -> None:
    cache = make_cache(source, clock)
    cache.get("a")
    source.error = ConnectionError("away")
    clock.now += 3
    cache.get("a")
    clock.now += 3
    source.gate = Event()
    source.entered.clear()
    with ThreadPoolExecutor(1) as pool:
        prober = pool.submit(cache.get, "a")
        assert source.entered.wait(10)
        assert cache.get("a") == 1  # although the prober still waits for the source
        source.gate.set()
        assert prober.result(10) == 1


def test_size_bounds_what_is_kept_and_the_least_recently_read_goes(source: Source, clock: Clock) -> None:
    cache = make_cache(source, clock, size=2)
    cache.get_many(["a"])
    cache.get_many(["b"])
    cache.get("a")
    cache.get("c")
    cache.get("a")
    assert source.loads == [["a"], ["b"], ["c"]]
    cache.get("b")
    assert source.loads[-1] == ["b"]


def test_a_batch_larger_than_the_cache_is_answered_wholly(source: Source, clock: Clock) -> None:
    assert make_cache(source, clock, size=1).get_many(["a", "b", "c"]) == {"a": 1, "b": 2, "c": 3}


def test_a_load_that_began_before_a_discard_is_not_kept(source: Source, clock: Clock) -> None:
    cache = make_cache(source, clock)
    source.gate = Event()
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(cache.get, "a")
        assert source.entered.wait(10)
        cache.discard(["a"])
        source.gate.set()
        assert reader.result(10) == 1
    source.values["a"] = 5
    assert cache.get("a") == 5


def test_a_reader_ended_in_mid_load_leaves_no_key_locked(source: Source, clock: Clock) -> None:
    class Killed(BaseException):
        pass

    def killed(keys: Collection[str]) -> dict[str, int]:
        raise Killed

    cache = make_cache(source, clock)
    cache._load_many = killed
    with pytest.raises(Killed):
        cache.get("a")
    cache._load_many = source.load_many
    assert cache.get("a") == 1


def test_a_flood_of_misses_is_gathered_into_few_loads(source: Source, clock: Clock) -> None:
    source.values = {str(number): number for number in range(40)}
    cache: L1Cache[str, int] = L1Cache(source.load_many, ttl_s=2, size=100, load_limit=1, clock=clock)
    source.gate = Event()
    with ThreadPoolExecutor(40) as pool:
        first = pool.submit(cache.get, "0")
        assert source.entered.wait(10)
        readers = [pool.submit(cache.get, str(number)) for number in range(1, 40)]
        while len(cache._loads) < 40:
            pass
        source.gate.set()
        assert [first.result(10), *(reader.result(10) for reader in readers)] == list(range(40))
    assert [len(load) for load in source.loads] == [1, 39]


def test_the_turn_passes_on_when_a_load_fails(source: Source, clock: Clock) -> None:
    cache: L1Cache[str, int] = L1Cache(source.load_many, ttl_s=2, size=100, load_limit=1, clock=clock)
    source.gate, source.error = Event(), ConnectionError("away")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get, "a")
        assert source.entered.wait(10)
        second = pool.submit(cache.get, "b")
        while "b" not in cache._loads:
            pass
        source.gate.set()
        for reader in (first, second):
            assert isinstance(reader.exception(10), ConnectionError)
    source.error = None
    assert cache.get("a") == 1
