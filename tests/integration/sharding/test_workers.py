"""Worker leases: no two holders of a number ever make the same id, whatever dies and whatever the clocks say."""

import os
import threading
import time
from dataclasses import dataclass, field

import pytest
from django.db import OperationalError, connections, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.sharding import workers
from infra.sharding.errors import WorkerLeaseUnavailable
from infra.sharding.ids import IMPORT_WORKER, IdGenerator, IdsExhausted, parse, slot_of, wall_clock_ms
from infra.sharding.models import Worker
from infra.sharding.slots import slot_of_user
from infra.sharding.workers import (
    ProcessLease,
    WorkerLease,
    new_order_id,
    new_user_id,
    release_lease,
    renew_lease,
    take_lease,
)

FAR_MS = 2**41 - 1


@pytest.fixture
def only_two_numbers(db: None) -> None:
    """Leave two free numbers, so that they change hands all the time."""
    Worker.objects.filter(number__gte=2).update(high_water_ms=FAR_MS)
    Worker.objects.filter(number__lt=2).update(high_water_ms=0, holder="")


@dataclass
class Host:
    """A machine with a clock of its own and at most one process on it."""

    clock_ms: int = 1_000_000
    lease: WorkerLease | None = None
    last_by_slot: dict[int, int] = field(default_factory=dict)


HOSTS = 3
# Few and round, so that clocks often show the very millisecond of another one's ids; leases last 300,000 ms.
CLOCK_STEPS_MS = [-400_000, -100_000, 1, 100_000, 300_000, 400_000]
steps = st.lists(
    st.tuples(
        st.integers(0, HOSTS - 1),
        st.one_of(
            st.tuples(st.just("issue"), st.integers(0, 1)),
            st.tuples(st.just("step"), st.sampled_from(CLOCK_STEPS_MS)),
            st.tuples(st.sampled_from(["crash", "leave", "renew"]), st.just(0)),
        ),
    ),
    max_size=60,
)


def play(host: Host, what: str, value: int) -> int | None:
    """Take one step on a host; return the id it made, if any."""
    clock = lambda: host.clock_ms  # noqa: E731
    if what == "step":
        host.clock_ms = max(host.clock_ms + value, 1)
    elif what == "crash":
        host.lease, host.last_by_slot = None, {}
    elif what == "leave" and host.lease is not None:
        release_lease(host.lease)
        host.lease, host.last_by_slot = None, {}
    elif what == "renew" and host.lease is not None:
        renew_lease(host.lease, lease_s=300, clock_ms=clock)
    elif what == "issue":
        try:
            if host.lease is None:
                host.lease = take_lease(lease_s=300, clock_ms=clock)
            return host.lease.generator.next_id(value)
        except (WorkerLeaseUnavailable, IdsExhausted):
            return None
    return None


@given(steps)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ids_never_repeat_across_processes_crashes_lease_changes_and_clock_steps(
    only_two_numbers: None, played: list[tuple[int, tuple[str, int]]]
) -> None:
    # given two worker numbers for three hosts whose clocks step as they like
    Worker.objects.filter(number__lt=2).update(high_water_ms=0, holder="")
    hosts = [Host() for _ in range(HOSTS)]
    made: set[int] = set()
    for host_number, (what, value) in played:
        # when
        host = hosts[host_number]
        new = play(host, what, value)
        # then
        if new is not None:
            assert new not in made
            assert new > host.last_by_slot.get(value, -1)
            made.add(new)
            host.last_by_slot[value] = new


def test_without_the_high_water_mark_the_next_holder_would_repeat_ids(only_two_numbers: None) -> None:
    # given a holder that died, and a next one whose clock is behind
    first = take_lease(lease_s=300, clock_ms=lambda: 1_000_000)
    issued = first.generator.next_id(0)
    # when the mark is lost
    careless = IdGenerator(first.number, after_ms=0, until_ms=FAR_MS, clock_ms=lambda: 1_000_000)
    # then
    assert careless.next_id(0) == issued


@pytest.mark.usefixtures("only_two_numbers")
def test_a_number_whose_holder_died_is_left_alone_until_its_mark_has_passed() -> None:
    dead = take_lease(lease_s=300, clock_ms=lambda: 1_000_000)
    other = take_lease(lease_s=300, clock_ms=lambda: 1_000_000)
    assert other.number != dead.number
    with pytest.raises(WorkerLeaseUnavailable):
        take_lease(lease_s=300, clock_ms=lambda: 1_300_000)
    successor = take_lease(lease_s=300, clock_ms=lambda: 1_300_001)
    assert parse(successor.generator.next_id(0)).at_ms == 1_300_001


@pytest.mark.usefixtures("only_two_numbers")
def test_a_number_given_back_is_free_at_once_and_goes_on_above_what_was_issued() -> None:
    leaving = take_lease(lease_s=300, clock_ms=lambda: 1_000_000)
    last = leaving.generator.next_id(0)
    release_lease(leaving)
    Worker.objects.exclude(number=leaving.number).update(high_water_ms=FAR_MS)
    with pytest.raises(IdsExhausted):
        leaving.generator.next_id(0)
    successor = take_lease(lease_s=300, clock_ms=lambda: 1_000_001)
    assert successor.number == leaving.number
    assert successor.generator.next_id(0) > last


@pytest.mark.usefixtures("only_two_numbers")
def test_a_lease_that_went_to_another_holder_cannot_be_renewed_and_the_two_never_meet() -> None:
    first = take_lease(lease_s=300, clock_ms=lambda: 1_000_000)
    Worker.objects.exclude(number=first.number).update(high_water_ms=FAR_MS)
    second = take_lease(lease_s=300, clock_ms=lambda: 2_000_000)
    assert not renew_lease(first, lease_s=300, clock_ms=lambda: 1_000_100)
    assert first.generator.until_ms < parse(second.generator.next_id(0)).at_ms


@pytest.mark.usefixtures("only_two_numbers")
def test_a_successor_whose_clock_steps_back_still_issues_above_the_mark() -> None:
    # given an id of a holder that died, and a successor that took its number in good time
    dead = take_lease(lease_s=300, clock_ms=lambda: 1_000_000)
    issued = dead.generator.next_id(0)
    Worker.objects.exclude(number=dead.number).update(high_water_ms=FAR_MS)
    clock_ms = 1_400_000
    successor = take_lease(lease_s=300, clock_ms=lambda: clock_ms)
    assert successor.number == dead.number
    # when its clock steps back to the very millisecond of that id
    clock_ms = 1_000_000
    again = successor.generator.next_id(0)
    # then
    assert again != issued
    assert parse(again).at_ms == 1_300_001


@pytest.mark.usefixtures("only_two_numbers")
def test_renewing_with_a_clock_that_stepped_back_does_not_lower_the_mark() -> None:
    lease = take_lease(lease_s=300, clock_ms=lambda: 1_000_000)
    assert renew_lease(lease, lease_s=300, clock_ms=lambda: 500_000)
    assert Worker.objects.get(number=lease.number).high_water_ms == 1_300_000


@pytest.mark.django_db
def test_the_import_number_is_never_leased() -> None:
    assert not Worker.objects.filter(number=IMPORT_WORKER).exists()
    assert Worker.objects.count() == IMPORT_WORKER


@pytest.mark.usefixtures("committed")
def test_processes_that_start_at_once_get_different_numbers() -> None:
    leases: list[WorkerLease] = []
    barrier = threading.Barrier(12)

    def start() -> None:
        barrier.wait()
        leases.append(take_lease())
        connections.close_all()

    threads = [threading.Thread(target=start) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert len({lease.number for lease in leases}) == 12
    finally:
        for lease in leases:
            release_lease(lease)


@pytest.mark.usefixtures("committed")
def test_new_ids_are_for_now_and_for_the_users_slot() -> None:
    user_id = new_user_id()
    order_ids = [new_order_id(user_id) for _ in range(10)]
    assert {slot_of(order_id) for order_id in order_ids} == {slot_of_user(user_id)}
    assert order_ids == sorted(set(order_ids))
    assert abs(parse(order_ids[-1]).at_ms - wall_clock_ms()) < 2_000


@pytest.mark.usefixtures("committed")
def test_the_lease_is_kept_when_the_transaction_around_its_first_use_is_rolled_back() -> None:
    process = ProcessLease()
    with transaction.atomic(using="default"):
        process.next_id(0)
        transaction.set_rollback(True, using="default")
    lease = process._lease
    assert lease is not None
    assert Worker.objects.get(number=lease.number).holder == lease.holder
    process.give_back()
    assert Worker.objects.get(number=lease.number).holder == ""


@pytest.mark.usefixtures("committed")
def test_a_child_made_by_fork_has_a_lease_of_its_own() -> None:
    parent = workers.process_lease()
    parent.next_id(0)
    connections.close_all()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            lease = workers.process_lease()
            own = lease.next_id(0)
            lease.give_back()
            os.write(writing, str(own).encode())
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert parse(int(os.read(reading, 100))).worker != parse(parent.next_id(0)).worker


@pytest.mark.usefixtures("committed")
def test_ids_go_on_without_the_global_server_until_the_lease_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a process with a lease
    process = ProcessLease()
    process.next_id(0)
    lease = process._lease
    assert lease is not None
    # when the global server is gone
    monkeypatch.setattr(workers, "take_lease", _refuse)
    monkeypatch.setattr(workers, "renew_lease", _refuse)
    with pytest.raises(OperationalError):
        process.maintain()
    # then
    process.next_id(0)
    # and when the lease's time is over by the monotonic clock
    lease.ends_at = time.monotonic()
    with pytest.raises(WorkerLeaseUnavailable):
        process.next_id(0)
    release_lease(lease)


@pytest.mark.usefixtures("committed")
def test_a_hanging_global_server_is_waited_for_once_not_by_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "FIRST_LEASE_TIMEOUT_S", 0.3)
    monkeypatch.setattr(workers, "take_lease", lambda: time.sleep(1))
    process = ProcessLease()
    started_at = time.monotonic()
    for _ in range(20):
        with pytest.raises(WorkerLeaseUnavailable):
            process.next_id(0)
    assert time.monotonic() - started_at < 0.6


@pytest.mark.usefixtures("committed")
def test_the_first_lease_is_short_and_the_background_makes_it_an_hour() -> None:
    process = ProcessLease()
    process.maintain()
    lease = process._lease
    assert lease is not None
    assert lease.generator.until_ms - wall_clock_ms() <= 60_000
    process.maintain()
    assert lease.generator.until_ms - wall_clock_ms() > 3_590_000
    process.give_back()


def _refuse(*args: object, **kwargs: object) -> None:
    raise OperationalError(2002, "Can't connect to the server")
