"""Worker numbers: leased in `default`, so that no two processes ever make the same id.

A lease is a number and a high-water mark: the latest time that its holder may put into an id. The mark is written
before any id under it is made, and the next holder of the number issues above it only; so uniqueness rests on the
marks alone and on no clock. The number is free again once its mark has passed, or at once after a graceful end, which
lowers the mark to what was issued.

Requests read memory only. The lease is taken and renewed in the background, on connections apart from any transaction
of the caller (a mark that was rolled back would be a mark that never was); only the first id of a process may wait
for it, up to a bound.
"""

import logging
import os
import random
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from django.db import DatabaseError
from django.utils import timezone

from infra.errors import DomainError
from infra.sharding.background import Periodic, call_apart, on_end
from infra.sharding.errors import WorkerLeaseUnavailable
from infra.sharding.ids import IdGenerator, IdsExhausted, wall_clock_ms
from infra.sharding.models import Worker
from infra.sharding.placement import HOME
from infra.sharding.slots import SLOT_COUNT, slot_of_user

logger = logging.getLogger(__name__)

LEASE_S: Final = 3600
# A process that dies at once must not block its number for an hour: a crash loop would use them all up.
FIRST_LEASE_S: Final = 60
RENEW_INTERVAL_S: Final = 5.0
RENEW_AFTER_S: Final = 300
FIRST_LEASE_TIMEOUT_S: Final = 3.0
RETRY_PAUSE_S: Final = 1.0
CANDIDATE_COUNT: Final = 64


@dataclass(slots=True)
class WorkerLease:
    """A worker number held by this process until `ends_at` on its monotonic clock."""

    number: int
    holder: str
    generator: IdGenerator
    taken_at: float
    ends_at: float
    was_renewed: bool = False


def take_lease(
    *,
    lease_s: float = FIRST_LEASE_S,
    clock_ms: Callable[[], int] = wall_clock_ms,
    monotonic: Callable[[], float] = time.monotonic,
) -> WorkerLease:
    """Lease a free worker number. Raises WorkerLeaseUnavailable when there is none, or DatabaseError.

    Takes no lock: the row is changed by compare-and-set on holder and mark, and a lost race tries another number.
    """
    taken_at = monotonic()
    now_ms = clock_ms()
    until_ms = now_ms + int(lease_s * 1000)
    free = list(
        Worker.objects.using(HOME)
        .filter(high_water_ms__lt=now_ms)
        .order_by("high_water_ms", "number")
        .values_list("number", "holder", "high_water_ms")[:CANDIDATE_COUNT]
    )
    random.shuffle(free)
    holder = secrets.token_hex(16)
    for number, last_holder, high_water_ms in free:
        taken = (
            Worker.objects.using(HOME)
            .filter(number=number, holder=last_holder, high_water_ms=high_water_ms)
            .update(holder=holder, high_water_ms=until_ms, leased_at=timezone.now())
        )
        if taken:
            generator = IdGenerator(number, after_ms=high_water_ms, until_ms=until_ms, clock_ms=clock_ms)
            return WorkerLease(number, holder, generator, taken_at, taken_at + lease_s)
    raise WorkerLeaseUnavailable("All worker numbers are in use.")


def renew_lease(
    lease: WorkerLease,
    *,
    lease_s: float = LEASE_S,
    clock_ms: Callable[[], int] = wall_clock_ms,
    monotonic: Callable[[], float] = time.monotonic,
) -> bool:
    """Raise the lease's mark and end; False when the number has meanwhile gone to another holder."""
    taken_at = monotonic()
    # A clock that has stepped back must not lower the mark under ids already made.
    until_ms = max(clock_ms() + int(lease_s * 1000), lease.generator.until_ms)
    renewed = (
        Worker.objects.using(HOME)
        .filter(number=lease.number, holder=lease.holder)
        .update(high_water_ms=until_ms, leased_at=timezone.now())
    )
    if renewed:
        lease.generator.extend(until_ms)
        lease.taken_at, lease.ends_at, lease.was_renewed = taken_at, taken_at + lease_s, True
    return bool(renewed)


def release_lease(lease: WorkerLease) -> None:
    """Issue nothing more, and lower the mark to what was issued, so that the number is free at once."""
    highest_ms = lease.generator.close()
    Worker.objects.using(HOME).filter(number=lease.number, holder=lease.holder).update(
        holder="", high_water_ms=highest_ms
    )


class ProcessLease:
    """The lease of one process: taken on first use, renewed in the background, given back at exit."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._lease: WorkerLease | None = None
        self._taking = threading.Lock()
        self._failed_at = -RETRY_PAUSE_S

    def next_id(self, slot: int) -> int:
        """Return a new id; takes a lease first where there is none. Raises WorkerLeaseUnavailable."""
        lease = self._lease
        if lease is None or time.monotonic() >= lease.ends_at:
            lease = self._take(instead_of=lease)
        try:
            return lease.generator.next_id(slot)
        except IdsExhausted:
            # The wall clock has jumped beyond the lease.
            return self._next_id_of_new_lease(slot, lease)

    def maintain(self) -> None:
        """Take the lease, or renew it when it is due. Called in the background only."""
        lease = self._lease
        if lease is None:
            self._take(instead_of=None)
            return
        is_due = not lease.was_renewed or time.monotonic() - lease.taken_at >= RENEW_AFTER_S
        if is_due and not renew_lease(lease):
            logger.warning("Worker number %s has gone to another process", lease.number)
            self._take(instead_of=lease)

    def give_back(self) -> None:
        """Release the lease, if there is one; best effort, since its mark passes by itself."""
        lease, self._lease = self._lease, None
        if lease is None or self.pid != os.getpid():
            return
        try:
            call_apart(lambda: release_lease(lease), timeout_s=FIRST_LEASE_TIMEOUT_S)
        except (DatabaseError, TimeoutError, RuntimeError) as error:
            logger.warning("Worker number %s was not given back: %s", lease.number, error)

    def _next_id_of_new_lease(self, slot: int, exhausted: WorkerLease) -> int:
        try:
            return self._take(instead_of=exhausted).generator.next_id(slot)
        except IdsExhausted as error:
            raise WorkerLeaseUnavailable("The clock does not stand still enough to make ids.") from error

    def _take(self, *, instead_of: WorkerLease | None) -> WorkerLease:
        """Lease a number; those who come meanwhile wait for the same one, and a failure is told to all for a while."""
        if not self._taking.acquire(timeout=FIRST_LEASE_TIMEOUT_S):
            raise WorkerLeaseUnavailable("A worker number is still being leased.")
        try:
            if self._lease is not None and self._lease is not instead_of:
                return self._lease
            if time.monotonic() - self._failed_at < RETRY_PAUSE_S:
                raise WorkerLeaseUnavailable("No worker number could be leased a moment ago.")
            try:
                lease = call_apart(take_lease, timeout_s=FIRST_LEASE_TIMEOUT_S)
            except (DatabaseError, TimeoutError, DomainError) as error:
                self._failed_at = time.monotonic()
                raise WorkerLeaseUnavailable("No worker number could be leased.") from error
            self._lease = lease
        finally:
            self._taking.release()
        _renewal.start_on_use()
        return lease


_current: ProcessLease | None = None
_creating: Final = threading.Lock()


def process_lease() -> ProcessLease:
    """Return the lease of this process; a child made by fork gets its own."""
    global _current  # noqa: PLW0603 - one a process is what this is for
    current = _current
    if current is None or current.pid != os.getpid():
        with _creating:
            current = _current
            if current is None or current.pid != os.getpid():
                current = _current = ProcessLease()
                on_end(current.give_back)
    return current


def new_order_id(user_id: int) -> int:
    """Return a new id for an order of this user. Raises WorkerLeaseUnavailable (503, nothing was taken)."""
    return new_id_of_user(user_id)


def new_id_of_user(user_id: int) -> int:
    """Return a new id for anything of this user that tells its place. Raises WorkerLeaseUnavailable."""
    return process_lease().next_id(slot_of_user(user_id))


def new_user_id() -> int:
    """Return a new user id, whose own slot bits are random. Raises WorkerLeaseUnavailable."""
    return new_id()


def new_id() -> int:
    """Return a new id for what belongs to no user; its slot bits are random. Raises WorkerLeaseUnavailable."""
    return process_lease().next_id(random.randrange(SLOT_COUNT))


def give_back_lease() -> None:
    """End this process's lease gracefully, before the process itself ends; the next id takes a new one."""
    process_lease().give_back()


def _maintain() -> None:
    process_lease().maintain()


_renewal: Final = Periodic("worker-lease", RENEW_INTERVAL_S, _maintain)
