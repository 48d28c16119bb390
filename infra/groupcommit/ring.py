"""What waits to be committed, in the order of arrival: bounded, and without threads or a clock of its own.

An entry goes one way: it waits, then it is begun or withdrawn; one that was begun is settled, once. So whoever holds
the ring's lock can tell exactly whether anything may have been done for an item.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class RingFull(Exception):
    """As many wait as may."""


@dataclass(slots=True, eq=False)
class Entry(Generic[Item, Outcome]):
    """An item and, once `settled` is set, either its outcome or the error that its batch ended in."""

    item: Item
    arrived_at: float
    settled: threading.Event = field(default_factory=threading.Event)
    outcomes: list[Outcome] = field(default_factory=list)
    error: BaseException | None = None


class Ring(Generic[Item, Outcome]):
    """At most `capacity` entries wait; at most `max_batch` are begun at a time, the oldest first.

    A batch that is not full is due `linger_s` seconds after its oldest entry came, so that more can join it; at once
    where the batch before was a lone item, since then there is no load worth waiting for. Not locked: for one caller
    at a time.
    """

    def __init__(self, *, capacity: int, max_batch: int, linger_s: float = 0.0) -> None:
        self._capacity = capacity
        self._max_batch = max_batch
        self._linger_s = linger_s
        self._waiting: OrderedDict[int, Entry[Item, Outcome]] = OrderedDict()
        self._last_size = 1

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full_batch(self) -> bool:
        """Whether nothing is gained by waiting for more."""
        return len(self._waiting) >= self._max_batch

    def put(self, item: Item, *, now: float) -> Entry[Item, Outcome]:
        """Let an item wait. Raises RingFull."""
        if len(self._waiting) >= self._capacity:
            raise RingFull
        entry: Entry[Item, Outcome] = Entry(item, now)
        self._waiting[id(entry)] = entry
        return entry

    def withdraw(self, entry: Entry[Item, Outcome]) -> bool:
        """Take an entry back; False if it was begun."""
        return self._waiting.pop(id(entry), None) is not None

    def due_in(self, *, now: float) -> float | None:
        """Return in how many seconds the next batch is due, 0 or less meaning now; None where nothing waits."""
        if not self._waiting:
            return None
        if self.is_full_batch or self._last_size == 1:
            return 0.0
        return next(iter(self._waiting.values())).arrived_at + self._linger_s - now

    def begin(self) -> list[Entry[Item, Outcome]]:
        """Take the next batch out; whoever began it settles it."""
        size = min(len(self._waiting), self._max_batch)
        self._last_size = max(size, 1)
        return [self._waiting.popitem(last=False)[1] for _ in range(size)]


def settle(batch: Sequence[Entry[Item, Outcome]], outcomes: Sequence[Outcome]) -> None:
    """Give each entry of a batch its own outcome. Raises ValueError unless there is one for each."""
    for entry, outcome in zip(batch, outcomes, strict=True):
        entry.outcomes.append(outcome)
    for entry in batch:
        entry.settled.set()


def fail(batch: Sequence[Entry[Item, Outcome]], error: BaseException) -> None:
    """Tell all of a batch what it ended in."""
    for entry in batch:
        entry.outcomes.clear()
        entry.error = error
        entry.settled.set()
