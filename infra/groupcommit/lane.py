"""A lane takes items from many requests and commits all that wait in one batch, in a thread or greenlet of its own.

While one batch is being committed the next gathers, so batches grow by themselves as the load does, and a lone item
waits for nobody.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from django.db import close_old_connections

from infra.errors import OutcomeUnknown, Overloaded

_log = logging.getLogger(__name__)

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


@dataclass(slots=True, eq=False)
class _Entry(Generic[Item, Outcome]):
    item: Item
    done: threading.Event = field(default_factory=threading.Event)
    outcomes: list[Outcome] = field(default_factory=list)
    error: BaseException | None = None


class Lane(Generic[Item, Outcome]):
    """Commits items of one kind for one database, one batch at a time.

    `commit` takes a batch and returns an outcome for each member, in the same order; what it raises is told to all
    members. It runs in the lane's own thread with that thread's database connections, so it never shares a transaction
    with a request. A child made by fork gets a thread, and an empty queue, of its own.
    """

    def __init__(
        self, name: str, commit: Callable[[Sequence[Item]], Sequence[Outcome]], *, capacity: int, max_batch: int
    ) -> None:
        self.name = name
        self._commit = commit
        self._capacity = capacity
        self._max_batch = max_batch
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._waiting: deque[_Entry[Item, Outcome]] = deque()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    def submit(self, item: Item, *, withdraw_after_s: float, answer_within_s: float) -> Outcome:
        """Commit the item with others and return its outcome; meanwhile the request holds no database connection.

        Raises Overloaded, with the item withdrawn and nothing taken, when the queue is full or the item was not begun
        after `withdraw_after_s`; OutcomeUnknown when it was begun and has no outcome after `answer_within_s` (both
        counted from now, in seconds). Raises what `commit` raised for the batch.
        """
        if self._pid != os.getpid():
            self._begin_process()
        began_at = time.monotonic()
        entry: _Entry[Item, Outcome] = _Entry(item)
        with self._lock:
            if len(self._waiting) >= self._capacity:
                raise Overloaded("Too many requests wait to be committed. Nothing was taken.")
            self._waiting.append(entry)
            if self._thread is None:
                self._start_thread()
        self._arrived.set()
        close_old_connections()
        if not entry.done.wait(withdraw_after_s) and self._withdraw(entry):
            raise Overloaded("The request has waited too long. Nothing was taken.")
        if not entry.done.wait(max(0.0, answer_within_s - (time.monotonic() - began_at))):
            raise OutcomeUnknown("The commit takes too long. Repeat the request with the same Idempotency-Key.")
        if entry.error is not None:
            raise entry.error
        return entry.outcomes[0]

    def _begin_process(self) -> None:
        """Forget what belongs to the process that this one was forked from."""
        self._lock, self._arrived = threading.Lock(), threading.Event()
        self._waiting, self._thread = deque(), None
        self._pid = os.getpid()

    def _start_thread(self) -> None:
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def _withdraw(self, entry: _Entry[Item, Outcome]) -> bool:
        """Take an entry back; False if its batch has begun."""
        with self._lock:
            try:
                self._waiting.remove(entry)
            except ValueError:
                return False
            return True

    def _run(self) -> None:
        """Commit batch after batch; should this thread end, another takes over what waits or comes."""
        try:
            while True:
                self._arrived.wait()
                with self._lock:
                    batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_batch))]
                    if not self._waiting:
                        self._arrived.clear()
                if batch:
                    self._commit_batch(batch)
        finally:
            with self._lock:
                self._thread = None
                if self._waiting:
                    self._start_thread()

    def _commit_batch(self, batch: Sequence[_Entry[Item, Outcome]]) -> None:
        try:
            outcomes = self._commit([entry.item for entry in batch])
            for entry, outcome in zip(batch, outcomes, strict=True):
                entry.outcomes.append(outcome)
        except BaseException as error:
            for entry in batch:
                entry.error = error
            if not isinstance(error, Exception):
                raise
            _log.info("a batch of %d failed in %s: %s", len(batch), self.name, error)
        finally:
            for entry in batch:
                entry.done.set()
            close_old_connections()
