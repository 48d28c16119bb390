"""Partitions are sized so that none holds more than 500,000 rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.sharding.month_tables import TooFewSlots, partition_count


@given(st.integers(0, 60_000_000), st.floats(0.1, 10), st.integers(1, 1024))
def test_no_partition_exceeds_half_a_million_rows_with_thirty_percent_headroom(
    forecast: int, rows_per_order: float, owned_slots: int
) -> None:
    rows = forecast * rows_per_order * owned_slots / 1024
    try:
        partitions = partition_count(forecast=forecast, rows_per_order=rows_per_order, owned_slots=owned_slots)
    except TooFewSlots:
        assert rows * 1.3 / owned_slots > 500_000 / 2
        return
    assert partitions & (partitions - 1) == 0
    assert rows * 1.3 / partitions <= 500_000
    assert partitions == 1 or rows * 1.3 / (partitions / 2) > 500_000


def test_two_million_orders_a_day_on_two_shards_need_128_partitions_each() -> None:
    assert partition_count(forecast=62_000_000, rows_per_order=1, owned_slots=512) == 128


def test_more_rows_than_the_shards_slots_can_part_is_told() -> None:
    with pytest.raises(TooFewSlots):
        partition_count(forecast=2_000_000_000, rows_per_order=4, owned_slots=8)
