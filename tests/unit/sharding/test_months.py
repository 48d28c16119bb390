"""Months: every one of 2010 to 2040 resolves to its own table, at its very first and last instant."""

import calendar
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.sharding.ids import IdParts, compose, first_id_at, ms_of
from infra.sharding.months import Month

MONTHS = [Month(year, month) for year in range(2010, 2041) for month in range(1, 13)]
MS = timedelta(milliseconds=1)


def id_at(at: datetime) -> int:
    return compose(IdParts(at_ms=ms_of(at), slot=1023, worker=1023, sequence=3))


@pytest.mark.parametrize("month", MONTHS, ids=str)
def test_every_month_of_2010_to_2040_holds_exactly_the_ids_of_its_days(month: Month) -> None:
    days = calendar.monthrange(month.year, month.month)[1]
    assert month.ends_at - month.starts_at == timedelta(days=days)
    for at in (month.starts_at, month.starts_at + timedelta(days=days) - MS):
        assert Month.of_id(id_at(at)) == Month.of(at) == month
        assert month.first_id <= id_at(at) < month.next().first_id
    assert Month.of_id(id_at(month.ends_at)) == month.next()
    assert month.suffix == f"{month.year}{month.month:02}"
    assert month.next().previous() == month < month.next()
    assert Month.parse(str(month)) == Month.from_number(month.number) == month


def test_leap_days_belong_to_february() -> None:
    for year in (2012, 2016, 2020, 2024, 2028, 2032, 2036, 2040):
        assert Month.of_id(id_at(datetime(year, 2, 29, 23, 59, 59, 999_000, tzinfo=UTC))) == Month(year, 2)


def test_year_ends_belong_to_december() -> None:
    assert Month.of_id(id_at(datetime(2026, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC))) == Month(2026, 12)
    assert Month.of_id(id_at(datetime(2027, 1, 1, tzinfo=UTC))) == Month(2027, 1)


NAIVE_TIMES = st.datetimes(datetime(2010, 1, 2), datetime(2040, 12, 30))  # noqa: DTZ001


@given(NAIVE_TIMES, st.integers(-14 * 60, 14 * 60))
def test_the_month_is_that_of_utc_in_whatever_zone_the_time_is_told(naive: datetime, offset_minutes: int) -> None:
    at = naive.replace(tzinfo=timezone(timedelta(minutes=offset_minutes)))
    assert Month.of(at) == Month.of(at.astimezone(UTC)) == Month.of_id(first_id_at(at))


def test_a_naive_time_has_no_month() -> None:
    with pytest.raises(ValueError, match="aware"):
        Month.of(datetime(2026, 11, 1))  # noqa: DTZ001


@pytest.mark.parametrize("text", ["2026-13", "2026-00", "202611", "2026-1", "november", "2026-11-01", ""])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="month"):
        Month.parse(text)
