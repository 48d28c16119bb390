"""What waits to be committed, in the order of arrival: bounded, and without threads or a clock of its own.

An entry waits, then it is begun or withdrawn. It is settled once, by whoever comes first: its batch, or its own time
limit. So whoever holds the ring's lock can tell exactly whether anything may have been done for an item.
"""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from infra.errors import OutcomeUnknown, Overloaded

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Gate:
    """Opened once, for the one who waits: an Event without the parts that every order would pay for.

    For threads, and for greenlets once gevent has patched the locks.
    """

    __slots__ = ("_lock", "is_open")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.is_open = False

    def open(self) -> None:
        """Let the waiter go on; opening it again changes nothing. For one caller at a time."""
        if not self.is_open:
            self.is_open = True
            self._lock.release()

    def wait(self) -> None:
        """Wait until it is open. For one caller, once."""
        self._lock.acquire()


@dataclass(slots=True, eq=False)
class Entry(Generic[Item, Outcome]):
    """An item and, once `settled` is open, its one outcome or the error that it ended in; a late outcome wins.

    Times are the caller's clock, in seconds: nothing is begun for it after `begin_by`, nobody waits after `answer_by`.
    """

    item: Item
    arrived_at: float
    begin_by: float
    answer_by: float
    is_begun: bool = False
    settled: Gate = field(default_factory=Gate)
    outcomes: Sequence[Outcome] = ()
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
        self._waiting: deque[Entry[Item, Outcome]] = deque()
        self._begun: Sequence[Entry[Item, Outcome]] = ()
        self._last_size = 1

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return not self._waiting and not self._begun

    @property
    def is_full_batch(self) -> bool:
        """Whether nothing is gained by waiting for more."""
        return len(self._waiting) >= self._max_batch

    def put(self, item: Item, *, now: float, begin_within_s: float, answer_within_s: float) -> Entry[Item, Outcome]:
        """Let an item wait. Raises Overloaded when as many wait as may."""
        if len(self._waiting) >= self._capacity:
            raise Overloaded("Too many requests wait to be committed. Nothing was taken.")
        entry: Entry[Item, Outcome] = Entry(item, now, now + begin_within_s, now + answer_within_s)
        self._waiting.append(entry)
        return entry

    def due_in(self, *, now: float) -> float | None:
        """Return in how many seconds the next batch is due, 0 or less meaning now; None where nothing waits."""
        if not self._waiting:
            return None
        if self.is_full_batch or self._last_size == 1:
            return 0.0
        return self._waiting[0].arrived_at + self._linger_s - now

    def begin(self) -> list[Entry[Item, Outcome]]:
        """Take the next batch out; whoever began it ends it by `settle` or `fail`."""
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_batch))]
        for entry in batch:
            entry.is_begun = True
        self._begun = batch
        self._last_size = max(len(batch), 1)
        return batch

    def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Give each entry of the batch under way its own outcome. Raises ValueError unless there is one for each."""
        if len(outcomes) != len(self._begun):
            raise ValueError(f"{len(outcomes)} outcomes for a batch of {len(self._begun)}")
        for entry, outcome in zip(self._begun, outcomes, strict=True):
            entry.outcomes = (outcome,)
        self._end_batch()

    def fail(self, error: BaseException) -> None:
        """Tell all of the batch under way what it ended in."""
        for entry in self._begun:
            entry.error = error
        self._end_batch()

    def expire(self, *, now: float) -> list[Entry[Item, Outcome]]:
        """Settle what has waited too long and return it: Overloaded for what was not begun, and now never will be.

        OutcomeUnknown for what was begun; its outcome may still come.
        """
        late = [entry for entry in self._waiting if now >= entry.begin_by]
        for entry in late:
            self._waiting.remove(entry)
            entry.error = Overloaded("The request has waited too long. Nothing was taken.")
        unknown = [entry for entry in self._begun if now >= entry.answer_by and not entry.settled.is_open]
        for entry in unknown:
            entry.error = OutcomeUnknown("The commit takes too long. Repeat the request with the same Idempotency-Key.")
        for entry in late + unknown:
            entry.settled.open()
        return late + unknown

    def _end_batch(self) -> None:
        for entry in self._begun:
            entry.settled.open()
        self._begun = ()
