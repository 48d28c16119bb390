"""Times in answers."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from infra.api.rendering import rfc3339


@pytest.mark.parametrize(
    ("at", "told"),
    [
        (datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC), "2026-11-22T12:00:00.123456Z"),
        (datetime(2026, 11, 22, 12, tzinfo=UTC), "2026-11-22T12:00:00Z"),
        (datetime(2026, 11, 22, 1, 30, tzinfo=timezone(timedelta(hours=2))), "2026-11-21T23:30:00Z"),
    ],
)
def test_a_time_is_told_in_utc_whatever_its_own_zone_is(at, told):
    assert rfc3339(at) == told
