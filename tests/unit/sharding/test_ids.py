"""Ids: they round-trip, sort by time, and are never made twice."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.sharding.ids import (
    IMPORT_WORKER,
    MAX_ID,
    MAX_MS,
    IdGenerator,
    IdParts,
    IdsExhausted,
    compose,
    first_id_at,
    imported_id,
    parse,
    slot_of,
    time_of,
)

FAR_MS = MAX_MS
slots = st.integers(0, 1023)
parts = st.builds(
    IdParts, at_ms=st.integers(0, MAX_MS), slot=slots, worker=st.integers(0, 1023), sequence=st.integers(0, 3)
)
times = st.datetimes(datetime(2010, 1, 1), datetime(2079, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


class SteppingClock:
    """A clock that goes where it is told, backwards too."""

    def __init__(self, at_ms: int) -> None:
        self.at_ms = at_ms

    def __call__(self) -> int:
        return self.at_ms


@given(parts)
def test_an_id_gives_back_what_it_was_made_of(id_parts: IdParts) -> None:
    assert parse(compose(id_parts)) == id_parts


@given(st.integers(0, MAX_ID))
def test_every_63_bit_number_is_the_id_of_its_parts(number: int) -> None:
    assert compose(parse(number)) == number


@given(parts, parts)
def test_ids_sort_by_time(one: IdParts, other: IdParts) -> None:
    if one.at_ms < other.at_ms:
        assert compose(one) < compose(other)


@given(parts)
def test_an_id_tells_its_slot_and_its_time(id_parts: IdParts) -> None:
    number = compose(id_parts)
    assert slot_of(number) == id_parts.slot
    assert time_of(number) == datetime(2010, 1, 1, tzinfo=UTC) + timedelta(milliseconds=id_parts.at_ms)
    assert first_id_at(time_of(number)) <= number < first_id_at(time_of(number) + timedelta(milliseconds=1))


@pytest.mark.parametrize(
    "bad",
    [
        IdParts(-1, 0, 0, 0),
        IdParts(MAX_MS + 1, 0, 0, 0),
        IdParts(0, 1024, 0, 0),
        IdParts(0, 0, 1024, 0),
        IdParts(0, 0, 0, 4),
    ],
)
def test_parts_out_of_range_make_no_id(bad: IdParts) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        compose(bad)


@pytest.mark.parametrize("number", [-1, MAX_ID + 1])
def test_numbers_outside_63_bits_are_no_ids(number: int) -> None:
    with pytest.raises(ValueError, match="is not an id"):
        parse(number)


def test_a_known_id_is_what_it_always_was() -> None:
    number = compose(IdParts(at_ms=533_080_123_456, slot=718, worker=5, sequence=2))
    assert number == 533_080_123_456 * 4_194_304 + 718 * 4096 + 5 * 4 + 2


@given(st.lists(st.tuples(st.integers(-10_000, 10_000), st.integers(0, 3)), max_size=200))
def test_a_generator_never_repeats_and_grows_in_each_slot_whatever_its_clock_does(
    steps: list[tuple[int, int]],
) -> None:
    # given a clock that steps forwards and backwards, and slots that are asked for in any order
    clock = SteppingClock(1_000_000)
    generator = IdGenerator(7, after_ms=999_000, until_ms=FAR_MS, clock_ms=clock)
    last_by_slot: dict[int, int] = {}
    for step_ms, slot in steps:
        clock.at_ms += step_ms
        # when
        number = generator.next_id(slot)
        # then
        assert number > last_by_slot.get(slot, -1)
        assert parse(number).at_ms > 999_000
        last_by_slot[slot] = number


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60))
def test_generators_of_different_workers_never_make_the_same_id_at_the_same_time(asked: list[int]) -> None:
    clock = SteppingClock(5_000)
    generators = [IdGenerator(worker, after_ms=0, until_ms=FAR_MS, clock_ms=clock) for worker in range(3)]
    made = [generator.next_id(slot) for slot in asked for generator in generators]
    assert len(set(made)) == len(made)


def test_two_generators_of_one_worker_number_do_repeat_which_is_why_numbers_are_leased() -> None:
    clock = SteppingClock(5_000)
    one, other = (IdGenerator(1, after_ms=0, until_ms=FAR_MS, clock_ms=clock) for _ in range(2))
    assert one.next_id(3) == other.next_id(3)


def test_more_than_four_ids_of_a_slot_in_a_millisecond_run_ahead_of_the_clock() -> None:
    generator = IdGenerator(1, after_ms=0, until_ms=FAR_MS, clock_ms=SteppingClock(5_000))
    made = [parse(generator.next_id(0)).at_ms for _ in range(9)]
    assert made == [5_000] * 4 + [5_001] * 4 + [5_002]


def test_a_generator_issues_nothing_at_or_below_its_floor_nor_beyond_its_lease() -> None:
    clock = SteppingClock(100)
    generator = IdGenerator(1, after_ms=500, until_ms=600, clock_ms=clock)
    assert parse(generator.next_id(0)).at_ms == 501
    clock.at_ms = 601
    with pytest.raises(IdsExhausted):
        generator.next_id(0)
    generator.extend(700)
    assert parse(generator.next_id(0)).at_ms == 601


def test_a_closed_generator_tells_its_highest_time_and_issues_no_more() -> None:
    clock = SteppingClock(550)
    generator = IdGenerator(1, after_ms=500, until_ms=600, clock_ms=clock)
    generator.next_id(0)
    clock.at_ms = 540
    generator.next_id(1)
    assert generator.close() == 550
    with pytest.raises(IdsExhausted):
        generator.next_id(0)


def test_threads_share_a_generator_without_repeats() -> None:
    generator = IdGenerator(1, after_ms=0, until_ms=FAR_MS)
    made: list[int] = []
    barrier = threading.Barrier(8)

    def issue() -> None:
        barrier.wait()
        made.extend([generator.next_id(5) for _ in range(500)])

    threads = [threading.Thread(target=issue) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 4_000


@given(slots, times, st.text(max_size=10), st.text(max_size=10), st.integers(0, 5))
def test_imported_ids_are_the_same_each_time_at_their_true_second(
    slot: int, at: datetime, source: str, number: str, attempt: int
) -> None:
    one, again = (imported_id(slot=slot, at=at, source=source, number=number, attempt=attempt) for _ in range(2))
    assert one == again
    assert slot_of(one) == slot
    assert parse(one).worker == IMPORT_WORKER
    assert time_of(one).replace(microsecond=0) == at.replace(microsecond=0)


def test_imported_ids_of_one_second_and_slot_rarely_collide_and_the_next_attempt_resolves_it() -> None:
    at = datetime(2010, 12, 1, 8, 26, tzinfo=UTC)
    made: set[int] = set()
    for number in range(500):
        attempt = 0
        while (new := imported_id(slot=1, at=at, source="s", number=str(number), attempt=attempt)) in made:
            attempt += 1
        made.add(new)
    assert len(made) == 500


def test_an_imported_row_before_2010_has_no_id() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        imported_id(slot=0, at=datetime(2009, 12, 31, tzinfo=UTC), source="s", number="1")
