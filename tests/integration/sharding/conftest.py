"""Parcels' tables for the tests of a module, made outside any test's transaction."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from infra.sharding.months import Month
from tests.factories.sharding import parcel_months

THIS_MONTH = Month.of(datetime.now(UTC))


@pytest.fixture(scope="module")
def parcels(django_db_setup: None, django_db_blocker: pytest.FixtureRequest) -> Iterator[None]:
    """Tables of parcels for this month, and for the one three months before it (those between are missing)."""
    past = THIS_MONTH.previous().previous().previous()
    with django_db_blocker.unblock(), parcel_months(past, THIS_MONTH):
        yield
