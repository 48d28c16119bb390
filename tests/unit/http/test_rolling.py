"""Which workers the master starts and ends: those that serve are never fewer than wanted, for what could be kept."""

from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from infra.http.server import WorkerState, count_to_spawn, workers_to_end


@dataclass
class _Master:
    """A master whose workers do what the test says."""

    wanted: int
    workers: dict[int, WorkerState] = field(default_factory=dict)
    replaced_age: int = 0
    last_age: int = 0

    def turn(self) -> None:
        ready_before = self.ready()
        for worker in workers_to_end(self.workers.values(), wanted=self.wanted, replaced_age=self.replaced_age):
            if worker.is_ready:
                self.workers[worker.process_id] = replace(worker, is_leaving=True)
            else:
                del self.workers[worker.process_id]
        assert self.ready() >= min(ready_before, self.wanted)
        for _ in range(count_to_spawn(self.workers.values(), wanted=self.wanted, replaced_age=self.replaced_age)):
            self.last_age += 1
            self.workers[self.last_age] = WorkerState(self.last_age, self.last_age, is_ready=False)
            assert len(self.staying()) <= self.wanted + 1

    def staying(self) -> list[WorkerState]:
        return [worker for worker in self.workers.values() if not worker.is_leaving]

    def ready(self) -> int:
        return sum(worker.is_ready for worker in self.staying())

    def reload(self) -> None:
        self.replaced_age = self.last_age

    def boot_one(self) -> None:
        for worker in self.staying():
            if not worker.is_ready:
                self.workers[worker.process_id] = replace(worker, is_ready=True)
                return

    def kill(self, index: int) -> None:
        if self.workers:
            del self.workers[sorted(self.workers)[index % len(self.workers)]]


def test_all_workers_start_at_once_where_nobody_serves() -> None:
    master = _Master(wanted=3)
    master.turn()
    assert len(master.workers) == 3


def test_a_reload_replaces_one_worker_after_the_other() -> None:
    master = _Master(wanted=2)
    master.turn()
    master.boot_one()
    master.boot_one()
    master.reload()
    seen = []
    for _ in range(3):
        master.turn()
        seen.append([(worker.age, worker.is_ready, worker.is_leaving) for worker in master.workers.values()])
        master.boot_one()
    assert seen == [
        [(1, True, False), (2, True, False), (3, False, False)],
        [(1, True, True), (2, True, False), (3, True, False), (4, False, False)],
        [(1, True, True), (2, True, True), (3, True, False), (4, True, False)],
    ]


@given(
    st.integers(1, 4),
    st.lists(st.one_of(st.sampled_from(["boot", "reload", "more", "fewer"]), st.integers(0, 7)), max_size=30),
)
def test_whatever_happens_the_workers_end_up_new_and_as_many_as_wanted(wanted: int, events: list[str | int]) -> None:
    master = _Master(wanted=wanted)
    for event in events:
        match event:
            case "boot":
                master.boot_one()
            case "reload":
                master.reload()
            case "more":
                master.wanted += 1
            case "fewer":
                master.wanted = max(1, master.wanted - 1)
            case int():
                master.kill(event)
        master.turn()
    for _ in range(4 * len(events) + 20):
        master.boot_one()
        master.turn()
    assert len(master.staying()) == master.ready() == master.wanted
    assert all(worker.age > master.replaced_age for worker in master.staying())
