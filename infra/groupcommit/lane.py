"""A lane takes items from many requests and commits all that wait in one batch, in a thread or greenlet of its own.

While one batch is being committed the next gathers, so batches grow by themselves as the load does, and a lone item
waits for nobody.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Generic

from infra.errors import Overloaded
from infra.groupcommit import metrics
from infra.groupcommit.ring import Entry, Item, Outcome, Ring
from infra.mysql.requests import end_request

_log = logging.getLogger(__name__)

_WATCH_INTERVAL_S: Final = 0.05


class Lane(Generic[Item, Outcome]):
    """Commits items of one kind for one database, one batch at a time.

    `commit` takes a batch and returns an outcome for each member, in the same order; what it raises is told to all
    members. It runs in the lane's own thread with that thread's database connections, so it never shares a transaction
    with a request. A child made by fork gets a thread, and an empty queue, of its own.
    """

    def __init__(
        self,
        name: str,
        commit: Callable[[Sequence[Item]], Sequence[Outcome]],
        *,
        capacity: int,
        max_batch: int,
        linger_s: float = 0.0,
    ) -> None:
        self.name = name
        self._commit = commit
        self._make_ring: Callable[[], Ring[Item, Outcome]] = lambda: Ring(
            capacity=capacity, max_batch=max_batch, linger_s=linger_s
        )
        self._begin_process()

    def submit(self, item: Item, *, begin_within_s: float, answer_within_s: float) -> Outcome:
        """Commit the item with others and return its outcome; meanwhile the request holds no database connection.

        Raises Overloaded, with the item withdrawn and nothing taken, when the queue is full or the item was not begun
        within `begin_within_s`; OutcomeUnknown when it was begun and has no outcome within `answer_within_s` (both
        counted from now, in seconds, to a twentieth of a second). Raises what `commit` raised for the batch.
        """
        if self._pid != os.getpid():
            self._begin_process()
        try:
            entry = self._put(item, begin_within_s=begin_within_s, answer_within_s=answer_within_s)
        except Overloaded:
            metrics.REFUSED.labels(self.name, "full").inc()
            raise
        end_request()
        entry.settled.wait()
        if entry.outcomes:
            return entry.outcomes[0]
        assert entry.error is not None  # noqa: S101 - settled without an outcome
        raise entry.error

    @property
    def waiting_count(self) -> int:
        """How many wait for their batch to begin."""
        return len(self._ring)

    def _begin_process(self) -> None:
        """Start empty: a child made by fork has nothing to do with what its parent was given."""
        self._ring = self._make_ring()
        self._lock = threading.Lock()
        self._arrived, self._filled = threading.Event(), threading.Event()
        self._committer: threading.Thread | None = None
        self._watcher: threading.Thread | None = None
        self._pid = os.getpid()

    def _put(self, item: Item, *, begin_within_s: float, answer_within_s: float) -> Entry[Item, Outcome]:
        now = time.monotonic()
        with self._lock:
            entry = self._ring.put(item, now=now, begin_within_s=begin_within_s, answer_within_s=answer_within_s)
            if self._committer is None:
                self._committer = self._start(self._run)
            if self._watcher is None:
                self._watcher = self._start(self._watch)
            if self._ring.is_full_batch:
                self._filled.set()
        self._arrived.set()
        return entry

    def _start(self, run: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=run, name=self.name, daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        """Commit batch after batch; should this thread end, another takes over what waits or comes."""
        try:
            while True:
                self._commit_batch(self._next_batch())
        finally:
            with self._lock:
                self._committer = self._start(self._run) if len(self._ring) else None

    def _watch(self) -> None:
        """Settle what has waited too long, while anything waits: one timer for all, instead of one for each."""
        while True:
            time.sleep(_WATCH_INTERVAL_S)
            with self._lock:
                expired = self._ring.expire(now=time.monotonic())
                is_idle = self._ring.is_idle
                if is_idle:
                    self._watcher = None
            for entry in expired:
                metrics.REFUSED.labels(self.name, "unknown" if entry.is_begun else "too_late").inc()
            if is_idle:
                return

    def _next_batch(self) -> list[Entry[Item, Outcome]]:
        """Wait until a batch is due and begin it."""
        while True:
            self._arrived.wait()
            with self._lock:
                due_in_s = self._ring.due_in(now=time.monotonic())
                if due_in_s is None:  # all were withdrawn
                    self._arrived.clear()
                    continue
                self._filled.clear()
                if due_in_s <= 0:
                    batch = self._ring.begin()
                    if not len(self._ring):
                        self._arrived.clear()
                    return batch
            self._filled.wait(due_in_s)

    def _commit_batch(self, batch: Sequence[Entry[Item, Outcome]]) -> None:
        began_at = time.monotonic()
        try:
            outcomes = self._commit([entry.item for entry in batch])
            with self._lock:
                self._ring.settle(outcomes)
        except BaseException as error:
            with self._lock:
                self._ring.fail(error)
            if not isinstance(error, Exception):
                raise
            _log.info("a batch of %d failed in %s: %s", len(batch), self.name, error)
        finally:
            end_request()
            self._tell(batch, began_at)

    def _tell(self, batch: Sequence[Entry[Item, Outcome]], began_at: float) -> None:
        metrics.BATCH_SIZE.labels(self.name).observe(len(batch))
        metrics.WAIT_SECONDS.labels(self.name).observe(began_at - batch[0].arrived_at)
        metrics.COMMIT_SECONDS.labels(self.name).observe(time.monotonic() - began_at)
        metrics.WAITING.labels(self.name).set(len(self._ring))
