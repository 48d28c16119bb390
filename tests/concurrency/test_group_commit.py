"""The lane: batches that grow with the load, one at a time, and what becomes of an item that waits too long."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.errors import OutcomeUnknown, Overloaded
from infra.groupcommit.lane import Lane

pytestmark = [
    pytest.mark.usefixtures("committed"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),  # one test ends a thread
]


class Commits:
    """A commit that waits for a sign, and notes its batches and how many ran at once."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Event()
        self.running = 0
        self.most_running = 0

    def __call__(self, items):
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.batches.append(list(items))
        self.begun.release()
        assert self.may_end.wait(5)
        self.running -= 1
        return [item * 2 for item in items]


def lane_of(commit, *, capacity=100, max_batch=10):
    return Lane("test", commit, capacity=capacity, max_batch=max_batch)


def submit(lane, item, *, begin_within_s=5.0, answer_within_s=5.0):
    return lane.submit(item, begin_within_s=begin_within_s, answer_within_s=answer_within_s)


def wait_until_waiting(lane, count):
    deadline = threading.Event()
    for _ in range(500):
        if lane.waiting_count == count:
            return
        deadline.wait(0.01)
    raise AssertionError(f"{lane.waiting_count} wait, not {count}")


def test_a_lone_item_waits_for_nobody():
    assert submit(lane_of(lambda items: [item * 2 for item in items]), 21) == 42


def test_what_arrives_during_a_batch_makes_the_next_one_and_each_gets_its_own_outcome():
    commits = Commits()
    lane = lane_of(commits, max_batch=4)
    with ThreadPoolExecutor(20) as threads:
        first = threads.submit(submit, lane, 0)
        assert commits.begun.acquire(timeout=5)
        others = [threads.submit(submit, lane, item) for item in range(1, 10)]
        wait_until_waiting(lane, 9)
        commits.may_end.set()

        assert first.result() == 0
        assert [other.result() for other in others] == [item * 2 for item in range(1, 10)]
    assert [len(batch) for batch in commits.batches] == [1, 4, 4, 1]
    assert commits.most_running == 1


def test_a_full_queue_refuses_with_nothing_taken():
    commits = Commits()
    lane = lane_of(commits, capacity=1)
    with ThreadPoolExecutor(2) as threads:
        running = threads.submit(submit, lane, 0)
        assert commits.begun.acquire(timeout=5)
        waiting = threads.submit(submit, lane, 1)
        wait_until_waiting(lane, 1)

        with pytest.raises(Overloaded):
            submit(lane, 2)
        commits.may_end.set()
        assert (running.result(), waiting.result()) == (0, 2)
    assert commits.batches == [[0], [1]]


def test_an_item_that_waits_too_long_is_withdrawn_before_its_batch():
    commits = Commits()
    lane = lane_of(commits)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(submit, lane, 0)
        assert commits.begun.acquire(timeout=5)

        with pytest.raises(Overloaded):
            submit(lane, 1, begin_within_s=0.01)
        commits.may_end.set()
        running.result()
    assert submit(lane, 2) == 4
    assert commits.batches == [[0], [2]]


def test_an_item_that_was_begun_and_has_no_outcome_in_time_is_unknown():
    commits = Commits()
    lane = lane_of(commits)

    with pytest.raises(OutcomeUnknown):
        submit(lane, 1, begin_within_s=0.05, answer_within_s=0.1)
    commits.may_end.set()
    assert submit(lane, 2) == 4


def test_what_a_batch_raises_is_told_to_its_members_and_the_lane_goes_on():
    def commit(items):
        if 13 in items:
            raise LookupError("no")
        return items

    lane = lane_of(commit)
    with pytest.raises(LookupError):
        submit(lane, 13)
    assert submit(lane, 1) == 1


def test_a_lane_whose_thread_was_ended_gets_another():
    def commit(items):
        if 13 in items:
            raise SystemExit
        return items

    lane = lane_of(commit)
    with pytest.raises(SystemExit):
        submit(lane, 13)
    assert submit(lane, 1) == 1


def test_a_forked_child_has_a_lane_of_its_own():
    lane = lane_of(lambda items: items)
    assert submit(lane, 1) == 1

    child = os.fork()
    if child == 0:
        os._exit(submit(lane, 7))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
