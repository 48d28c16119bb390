"""The first level of caching: inside one process, bounded, each key loaded once however many ask for it."""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from lru import LRU

from infra.errors import Overloaded

K = TypeVar("K")
V = TypeVar("V")

_WAIT_S: Final = 10.0
"""No request waits longer than this for another one's load; the databases' own time limits are shorter."""


@dataclass(slots=True)
class _Entry(Generic[V]):
    """A loaded value, or None for a key that the source does not have; `idle_loads` counts loads since it was read."""

    value: V | None
    fresh_until: float
    usable_until: float
    idle_loads: int


class LoadLost(Overloaded):
    """Another request's load of the same key took too long, or its request was ended in the middle of it."""


@dataclass(slots=True, eq=False)
class _Load(Generic[K, V]):
    """A load waiting or under way; whoever else wants one of its keys waits for it and reads `found` or `error`."""

    keys: list[K]
    turn: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    found: Mapping[K, V] = field(default_factory=dict)
    error: Exception | None = field(default_factory=lambda: LoadLost("The load was broken off."))


class L1Cache(Generic[K, V]):
    """Values by key, loaded in batches by `load_many`, which leaves out keys that do not exist.

    * A value is given out for `ttl_s` seconds after its load began, the absence of a key for `absent_ttl_s`.
    * While loading fails, the last value is given out for up to `stale_s` seconds more, and the source is asked only
      every `retry_s`. A key never loaded raises the source's error.
    * Concurrent readers of a key cause one load. At most `load_limit` loads run at once; keys missed meanwhile are
      gathered into the next one, so that a flood of misses takes few connections.
    * A load takes along up to `batch_size` other keys whose time is over, or will be within `ahead_s` seconds, and that
      were read since they were loaded, or within `max_idle_loads` loads before. So a wide set of warm keys costs few
      round trips, and few readers wait for one; a batch of 0 where loading several keys costs as much as each alone.
    * At most `size` keys are kept, the least recently read go first.

    Safe for threads and greenlets. Costs no work in the background.
    """

    def __init__(
        self,
        load_many: Callable[[Collection[K]], Mapping[K, V]],
        *,
        ttl_s: float | Callable[[], float],
        size: int,
        absent_ttl_s: float = 1.0,
        stale_s: float = 3600.0,
        retry_s: float = 1.0,
        batch_size: int = 200,
        max_idle_loads: int = 0,
        ahead_s: float = 0.0,
        load_limit: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load_many = load_many
        self._ttl_s: Callable[[], float] = ttl_s if callable(ttl_s) else lambda: ttl_s
        self._absent_ttl_s = absent_ttl_s
        self._stale_s = stale_s
        self._retry_s = retry_s
        self._batch_size = batch_size
        self._max_idle_loads = max_idle_loads
        self._ahead_s = ahead_s
        self._load_limit = load_limit
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: LRU[K, _Entry[V]] = LRU(size)
        self._loads: dict[K, _Load[K, V]] = {}
        self._running_count = 0
        self._next: _Load[K, V] | None = None
        # Keys in the order of their loads, hence nearly of their expiry.
        self._loaded: deque[tuple[float, K]] = deque()
        self._is_failing = False

    def get(self, key: K) -> V | None:
        """Return the key's value, or None if there is none; raises what `load_many` raises."""
        entry = self._entries.get(key)
        if entry is not None and self._clock() < entry.fresh_until:
            entry.idle_loads = 0
            return entry.value
        return self.get_many((key,)).get(key)

    def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """Return the values of the keys that exist; raises what `load_many` raises."""
        values: dict[K, V] = {}
        old: list[K] = []
        # Without the lock: a look into the cache is one step, and whoever replaces an entry makes a new one.
        entries, now = self._entries, self._clock()
        for key in keys:
            entry = entries.get(key)
            if entry is None or now >= entry.fresh_until:
                old.append(key)
            else:
                entry.idle_loads = 0
                if entry.value is not None:
                    values[key] = entry.value
        return values | self._get_old(old) if old else values

    def _get_old(self, keys: Iterable[K]) -> dict[K, V]:
        """Return the values of keys that were not fresh a moment ago: loaded by this reader or by another."""
        values: dict[K, V] = {}
        missing: list[K] = []
        waits: dict[K, _Load[K, V]] = {}
        with self._lock:
            now = self._clock()
            for key in keys:
                entry = self._entries.get(key)
                load = self._loads.get(key)
                if entry is not None and (
                    now < entry.fresh_until or (load is not None and self._is_failing and now < entry.usable_until)
                ):
                    entry.idle_loads = 0
                    if entry.value is not None:
                        values[key] = entry.value
                elif load is not None:
                    waits[key] = load
                else:
                    missing.append(key)
            if missing:
                mine, leads = self._load_for(list(dict.fromkeys(missing)))
        if missing:
            if leads:
                self._lead(mine)
            waits |= dict.fromkeys(missing, mine)
        for key, load in waits.items():
            if not load.done.wait(_WAIT_S):
                raise LoadLost("Reading from the database took too long.")
            self._collect(key, load, into=values)
        return values

    def discard(self, keys: Iterable[K]) -> None:
        """Forget the keys in this process, since they were changed."""
        with self._lock:
            for key in keys:
                self._entries.pop(key, None)
                self._loads.pop(key, None)  # a load that began before the change must not bring back the old value

    def clear(self) -> None:
        """Forget everything in this process."""
        with self._lock:
            self._entries.clear()
            self._loads.clear()
            self._loaded.clear()
            self._is_failing = False

    def _load_for(self, keys: list[K]) -> tuple[_Load[K, V], bool]:
        """Return the load that the keys go into, and whether the caller is the one to run it. Under the lock."""
        joined = self._next
        load = joined if joined is not None else _Load(keys=[])
        load.keys += keys
        self._loads |= dict.fromkeys(keys, load)
        if joined is None and self._running_count < self._load_limit:
            self._running_count += 1
            load.turn.set()
        elif joined is None:
            self._next = load
        return load, joined is None

    def _lead(self, load: _Load[K, V]) -> None:
        """Wait for the load's turn, run it, and give the turn to the next."""
        try:
            if load.turn.wait(_WAIT_S):
                self._load(load)
        finally:
            with self._lock:
                for key in load.keys:
                    if self._loads.get(key) is load:
                        del self._loads[key]
                if self._next is load:
                    self._next = None  # its turn never came
                elif self._next is not None:
                    self._next.turn.set()
                    self._next = None
                else:
                    self._running_count -= 1
            load.done.set()

    def _load(self, load: _Load[K, V]) -> None:
        began_at = self._clock()
        with self._lock:
            along = self._expiring_keys(began_at + self._ahead_s)
            self._loads |= dict.fromkeys(along, load)
            load.keys += along
        try:
            load.found = self._load_many(load.keys)
            load.error = None
            self._store(load, began_at=began_at)
        except Exception as error:  # noqa: BLE001 - every reader of these keys is told
            load.error = error
            self._keep_stale(load)

    def _expiring_keys(self, by: float) -> list[K]:
        """Return keys worth loading along: over their time by then, read since their load, not being loaded."""
        keys: list[K] = []
        while self._loaded and self._loaded[0][0] <= by and len(keys) < self._batch_size:
            fresh_until, key = self._loaded.popleft()
            entry = self._entries.get(key)
            if entry is None or entry.fresh_until != fresh_until or entry.idle_loads > self._max_idle_loads:
                continue
            if key in self._loads:
                continue
            keys.append(key)
        return keys

    def _store(self, load: _Load[K, V], *, began_at: float) -> None:
        ttl_s = self._ttl_s()
        with self._lock:
            self._is_failing = False
            for key in load.keys:
                if self._loads.get(key) is not load:
                    continue  # discarded meanwhile: it may be an old value
                value = load.found.get(key)
                fresh_until = began_at + (ttl_s if value is not None else self._absent_ttl_s)
                before = self._entries.get(key)
                idle_loads = 1 if before is None else before.idle_loads + 1
                self._entries[key] = _Entry(value, fresh_until, fresh_until + self._stale_s, idle_loads)
                self._note_expiry(fresh_until, key)

    def _keep_stale(self, load: _Load[K, V]) -> None:
        with self._lock:
            self._is_failing = True
            now = self._clock()
            for key in load.keys:
                entry = self._entries.get(key)
                if entry is not None and now < entry.usable_until:
                    entry.fresh_until = min(now + self._retry_s, entry.usable_until)
                    self._note_expiry(entry.fresh_until, key)

    def _note_expiry(self, fresh_until: float, key: K) -> None:
        if self._batch_size:
            self._loaded.append((fresh_until, key))

    def _collect(self, key: K, load: _Load[K, V], *, into: dict[K, V]) -> None:
        """Take a key from an ended load; if it failed, from what is kept, and raise its error where nothing is."""
        if load.error is None:
            if key in load.found:
                into[key] = load.found[key]
            return
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or self._clock() >= entry.usable_until:
                raise load.error
            entry.idle_loads = 0
            if entry.value is not None:
                into[key] = entry.value
