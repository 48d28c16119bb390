"""Ids that tell the way: time, slot, worker and sequence in 63 bits.

    bits 62..22  milliseconds since 2010-01-01 UTC (41 bits, until September 2079)
    bits 21..12  slot
    bits 11..2   worker number
    bits  1..0   sequence, counted for each worker, slot and millisecond

An order's id holds its user's slot, so id -> slot -> shard and id -> month need no lookup. A user's id holds random
bits in the slot's place (the user's slot is a hash of the whole id).
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Final

from infra.sharding.slots import SLOT_COUNT

ID_EPOCH: Final = datetime(2010, 1, 1, tzinfo=UTC)
ID_EPOCH_UNIX_MS: Final = int(ID_EPOCH.timestamp() * 1000)
WORKER_COUNT: Final = 1024
SEQUENCE_COUNT: Final = 4
IMPORT_WORKER: Final = 1023
"""Never leased: ids of imported rows carry it."""

MAX_MS: Final = (1 << 41) - 1
MAX_ID: Final = (1 << 63) - 1
_TIME_SHIFT: Final = 22
_SLOT_SHIFT: Final = 12
_WORKER_SHIFT: Final = 2
_NEVER: Final = -1
_ONE_MS: Final = timedelta(milliseconds=1)


class IdsExhausted(Exception):
    """The generator may not issue for this time: its lease has ended, or its clock is beyond the lease."""


@dataclass(frozen=True, slots=True)
class IdParts:
    """What an id is made of; `at_ms` counts milliseconds since 2010-01-01 UTC."""

    at_ms: int
    slot: int
    worker: int
    sequence: int


def compose(parts: IdParts) -> int:
    """Return the id made of these parts. Raises ValueError when one is out of its range."""
    if not (
        0 <= parts.at_ms <= MAX_MS
        and 0 <= parts.slot < SLOT_COUNT
        and 0 <= parts.worker < WORKER_COUNT
        and 0 <= parts.sequence < SEQUENCE_COUNT
    ):
        raise ValueError(f"{parts} does not fit into an id.")
    return _compose(parts.at_ms, parts.slot, parts.worker, parts.sequence)


def _compose(at_ms: int, slot: int, worker: int, sequence: int) -> int:
    return at_ms << _TIME_SHIFT | slot << _SLOT_SHIFT | worker << _WORKER_SHIFT | sequence


def parse(id: int) -> IdParts:  # noqa: A002 - the thing is called id
    """Return the parts of an id. Raises ValueError for a number that is no 63-bit id."""
    if not 0 <= id <= MAX_ID:
        raise ValueError(f"{id} is not an id.")
    return IdParts(
        at_ms=id >> _TIME_SHIFT,
        slot=id >> _SLOT_SHIFT & (SLOT_COUNT - 1),
        worker=id >> _WORKER_SHIFT & (WORKER_COUNT - 1),
        sequence=id & (SEQUENCE_COUNT - 1),
    )


def time_of(id: int) -> datetime:  # noqa: A002
    """Return the time, to the millisecond in UTC, at which the id was issued."""
    return ID_EPOCH + (id >> _TIME_SHIFT) * _ONE_MS


def slot_of(id: int) -> int:  # noqa: A002
    """Return the slot in an order's id. (A user's slot is `slot_of_user`.)"""
    return id >> _SLOT_SHIFT & (SLOT_COUNT - 1)


def ms_of(at: datetime) -> int:
    """Return an aware datetime as whole milliseconds since 2010-01-01 UTC (rounded down; negative before)."""
    return (at - ID_EPOCH) // _ONE_MS


def first_id_at(at: datetime) -> int:
    """Return the lower bound of all ids issued at or after a time: the bound for a range of ids.

    Times before 2010 and after 2079 give the lowest and the highest id.
    """
    return min(max(ms_of(at), 0) << _TIME_SHIFT, MAX_ID)


def wall_clock_ms() -> int:
    """Return this machine's time in milliseconds since 2010-01-01 UTC."""
    return time.time_ns() // 1_000_000 - ID_EPOCH_UNIX_MS


class IdGenerator:
    """Issues ids of one worker number within a lease.

    Promises, for threads and greenlets alike: no id twice; ids of one slot grow; every id's time lies in
    (`after_ms`, the end of the lease]. A clock that steps back is ridden out on the last time issued, which then runs
    ahead by one millisecond for each four ids of a slot. Not across a fork: the child needs a generator of its own.
    """

    def __init__(
        self, worker: int, *, after_ms: int, until_ms: int, clock_ms: Callable[[], int] = wall_clock_ms
    ) -> None:
        if not 0 <= worker < WORKER_COUNT:
            raise ValueError(f"{worker} is not a worker number.")
        self.worker = worker
        self._clock_ms = clock_ms
        self._floor_ms = max(after_ms + 1, 0)
        self._until_ms = until_ms
        self._last_ms = [_NEVER] * SLOT_COUNT
        self._sequence = [0] * SLOT_COUNT
        self._highest_ms = after_ms
        self._lock = threading.Lock()

    @property
    def highest_ms(self) -> int:
        """The latest time given to an id; before the first one, the time after which this generator issues."""
        return self._highest_ms

    @property
    def until_ms(self) -> int:
        """The latest time that an id may carry."""
        return self._until_ms

    def next_id(self, slot: int) -> int:
        """Return a new id for a slot. Raises IdsExhausted when the lease does not cover the time it would carry."""
        with self._lock:
            at_ms = max(self._clock_ms(), self._floor_ms)
            last_ms = self._last_ms[slot]
            sequence = 0
            if at_ms <= last_ms:
                at_ms, sequence = last_ms, self._sequence[slot] + 1
                if sequence == SEQUENCE_COUNT:
                    at_ms, sequence = last_ms + 1, 0
            if at_ms > self._until_ms:
                raise IdsExhausted(f"Worker {self.worker} may issue until {self._until_ms} ms, asked at {at_ms} ms.")
            self._last_ms[slot] = at_ms
            self._sequence[slot] = sequence
            self._highest_ms = max(self._highest_ms, at_ms)
            return _compose(at_ms, slot, self.worker, sequence)

    def extend(self, until_ms: int) -> None:
        """Move the end of the lease; only ever later."""
        with self._lock:
            self._until_ms = max(self._until_ms, until_ms)

    def close(self) -> int:
        """Issue nothing more, and return the latest time given to an id (the lease's high-water mark)."""
        with self._lock:
            self._until_ms = _NEVER
            return self._highest_ms


def imported_id(*, slot: int, at: datetime, source: str, number: str, attempt: int = 0) -> int:
    """Return the id of an imported row: the same arguments always give the same id.

    Its time is `at` to the second; milliseconds and sequence are derived from source, number and attempt, which gives
    4,000 ids a slot and second. A collision (another source or number got the id) is resolved by the next `attempt`.
    Raises ValueError for times outside 2010 to 2079.
    """
    text = "\0".join((source, number, str(attempt)))
    spread = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
    second_ms = ms_of(at.replace(microsecond=0))
    parts = IdParts(
        at_ms=second_ms + spread // SEQUENCE_COUNT % 1000,
        slot=slot,
        worker=IMPORT_WORKER,
        sequence=spread % SEQUENCE_COUNT,
    )
    return compose(parts)
