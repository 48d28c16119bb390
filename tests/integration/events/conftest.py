"""Fixtures of the event tests."""

import secrets

import pytest

from tests.factories.events import make_log_tables


@pytest.fixture
def bus_of_its_own(settings) -> str:
    """Give the test a bus that nobody else publishes to or reads from; returns the prefix of its keys."""
    settings.EVENT_BUS_PREFIX = f"test-{secrets.token_hex(6)}"
    return settings.EVENT_BUS_PREFIX


@pytest.fixture
def log_tables(committed: None) -> None:
    """Make the tables that test-only consumers write to."""
    make_log_tables()
