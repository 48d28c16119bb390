"""Slots: fixed for good, and as even as a uniform hash."""

import random
from collections import Counter

import pytest

from infra.sharding.slots import SLOT_COUNT, slot_of_user

USER_COUNT = 1_000_000
# The function must never change: rows are stored by it. They agree with b2sum's first 16 digits.
VECTORS = {
    0: 364,
    1: 667,
    2: 203,
    1023: 448,
    1024: 59,
    123456789: 520,
    2235901083100639304: 259,
    2**63 - 1: 151,
}


@pytest.fixture(scope="module")
def slot_counts() -> list[int]:
    rng = random.Random(20261122)
    # Ids as they are issued: growing, many with the same worker and sequence bits.
    user_id = 1 << 60
    counts = [0] * SLOT_COUNT
    for _ in range(USER_COUNT):
        user_id += rng.randrange(1 << 14)
        counts[slot_of_user(user_id)] += 1
    return counts


def chi_square(counts: list[int]) -> float:
    expected = sum(counts) / len(counts)
    return sum((count - expected) ** 2 for count in counts) / expected


def test_slots_are_those_of_the_test_vectors() -> None:
    assert {user_id: slot_of_user(user_id) for user_id in VECTORS} == VECTORS


def test_a_million_users_fill_the_slots_as_a_uniform_hash_would(slot_counts: list[int]) -> None:
    # 1,023 degrees of freedom: mean 1,023, standard deviation 45; four of them either way, since too even a spread
    # would be no random one either.
    assert 1023 - 4 * 45.2 < chi_square(slot_counts) < 1023 + 4 * 45.2


def test_the_chi_square_test_sees_a_slot_that_is_a_tenth_too_full(slot_counts: list[int]) -> None:
    skewed = list(slot_counts)
    for slot in range(0, SLOT_COUNT, 8):
        skewed[slot] = skewed[slot] * 11 // 10
    assert chi_square(skewed) > 1023 + 4 * 45.2


@pytest.mark.parametrize("shard_count", [2, 3, 4, 8])
def test_a_million_users_spread_over_the_shards_within_one_percent(slot_counts: list[int], shard_count: int) -> None:
    users = Counter()
    for slot, count in enumerate(slot_counts):
        users[slot * shard_count // SLOT_COUNT] += count
    even = USER_COUNT / shard_count
    assert all(abs(users[shard] - even) <= even * 0.01 for shard in range(shard_count))


@pytest.mark.parametrize("partitions", [2, 8, 64, 256])
@pytest.mark.parametrize("shard", [0, 1])
def test_rows_of_a_shard_spread_over_its_partitions_as_a_uniform_hash_would(
    slot_counts: list[int], partitions: int, shard: int
) -> None:
    rows = [0] * partitions
    for slot in range(shard * SLOT_COUNT // 2, (shard + 1) * SLOT_COUNT // 2):
        rows[slot % partitions] += slot_counts[slot]
    degrees = partitions - 1
    assert chi_square(rows) < degrees + 4 * (2 * degrees) ** 0.5
