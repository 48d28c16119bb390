"""The ring under any order of events: hypothesis plays thousands, with a clock and a failing database of its own."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from infra.errors import OutcomeUnknown, Overloaded
from infra.groupcommit.ring import Ring

# Times are multiples of 1/1024 s, which add up exactly.
CAPACITY, MAX_BATCH, LINGER_S = 5, 3, 1 / 256


class Crash(Exception):
    """What a database raises in the middle of a batch."""


class RingMachine(RuleBasedStateMachine):
    """Clients that come, a committer that begins and ends batches, and a clock that moves between any two of these.

    The simulated database is a set of numbers. Whatever the order of events: what is told as taken is in it, what is
    told as withdrawn never gets there, and only of the unknown nothing is promised.
    """

    def __init__(self):
        super().__init__()
        self.ring = Ring(capacity=CAPACITY, max_batch=MAX_BATCH, linger_s=LINGER_S)
        self.now = 100.0
        self.number = 0
        self.entries = []
        self.batch = []
        self.stored = set()
        self.begun = []

    @rule(begin_within_s=st.sampled_from([1 / 128, 0.5]), answer_within_s=st.sampled_from([1 / 64, 1.0]))
    def come(self, begin_within_s, answer_within_s):
        waiting = len(self.ring)
        self.number += 1
        try:
            entry = self.ring.put(
                self.number, now=self.now, begin_within_s=begin_within_s, answer_within_s=answer_within_s
            )
        except Overloaded:
            assert waiting == CAPACITY
            return
        assert waiting < CAPACITY
        self.entries.append(entry)

    @rule(seconds=st.sampled_from([1 / 1024, 1 / 256, 1 / 128, 0.5, 2.0]))
    def pass_time(self, seconds):
        self.now += seconds

    @precondition(lambda self: not self.batch)
    @rule()
    def begin_when_due(self):
        due_in_s = self.ring.due_in(now=self.now)
        if due_in_s is None:
            assert len(self.ring) == 0
        elif due_in_s <= 0:
            self.batch = self.ring.begin()
            self.begun += [entry.item for entry in self.batch]
            assert 1 <= len(self.batch) <= MAX_BATCH
        else:
            assert due_in_s <= LINGER_S
            assert len(self.ring) < MAX_BATCH

    @precondition(lambda self: self.batch)
    @rule()
    def commit(self):
        self.stored |= {entry.item for entry in self.batch}
        self.ring.settle([entry.item * 2 for entry in self.batch])
        self.batch = []

    @precondition(lambda self: self.batch)
    @rule(was_stored=st.booleans())
    def crash(self, was_stored):
        if was_stored:
            self.stored |= {entry.item for entry in self.batch}
        self.ring.fail(Crash())
        self.batch = []

    @rule()
    def expire(self):
        for entry in self.ring.expire(now=self.now):
            assert entry.settled.is_open
            assert self.now >= (entry.answer_by if entry.is_begun else entry.begin_by)

    @invariant()
    def each_is_told_the_truth(self):
        for entry in self.entries:
            if not entry.settled.is_open:
                continue
            if entry.outcomes:
                assert entry.outcomes == (entry.item * 2,)
                assert entry.item in self.stored
            elif isinstance(entry.error, Overloaded):
                assert not entry.is_begun
                assert entry.item not in self.stored
            else:
                assert isinstance(entry.error, OutcomeUnknown | Crash)

    @invariant()
    def nothing_is_begun_twice_or_out_of_turn(self):
        assert self.begun == sorted(set(self.begun))

    def teardown(self):
        """In the end everybody is told: the committer ends what it began, and time runs out for the rest."""
        if self.batch:
            self.commit()
        self.now += 10
        self.ring.expire(now=self.now)
        assert all(entry.settled.is_open for entry in self.entries)
        assert self.ring.is_idle


TestRing = RingMachine.TestCase
TestRing.settings = settings(max_examples=300, stateful_step_count=40, deadline=None, print_blob=True)


def test_without_the_mark_of_a_begun_entry_the_machine_would_find_the_lie():
    """The negative control: a ring that expires what is under way as if nothing had been taken."""

    class Careless(Ring):
        def expire(self, *, now):
            for entry in self._begun:
                entry.error = Overloaded("Nothing was taken.")
                entry.settled.open()
            return super().expire(now=now)

    machine = RingMachine()
    machine.ring = Careless(capacity=CAPACITY, max_batch=MAX_BATCH, linger_s=LINGER_S)
    machine.come(0.5, 1.0)
    machine.begin_when_due()
    machine.expire()
    with pytest.raises(AssertionError):
        machine.each_is_told_the_truth()


def test_a_batch_with_too_few_outcomes_is_refused_whole():
    ring = Ring(capacity=CAPACITY, max_batch=MAX_BATCH)
    first, second = (ring.put(item, now=0.0, begin_within_s=1, answer_within_s=1) for item in (1, 2))
    ring.begin()
    with pytest.raises(ValueError, match="1 outcomes for a batch of 2"):
        ring.settle([2])
    assert not first.settled.is_open
    assert not second.outcomes


def test_a_lone_item_is_due_at_once_and_load_makes_the_next_wait_for_more():
    ring = Ring(capacity=CAPACITY, max_batch=MAX_BATCH, linger_s=LINGER_S)

    def put(now):
        return ring.put(0, now=now, begin_within_s=1, answer_within_s=1)

    put(0.0)
    assert ring.due_in(now=0.0) == 0
    put(0.0)
    assert len(ring.begin()) == 2
    ring.settle([1, 1])
    put(1.0)
    assert ring.due_in(now=1.001) == pytest.approx(LINGER_S - 0.001)
    assert ring.due_in(now=1.0 + LINGER_S) <= 0
    put(1.0), put(1.0)
    assert ring.due_in(now=1.0) == 0
