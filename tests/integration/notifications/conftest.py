"""Fixtures of the tests of notifications."""

from collections.abc import Iterator

import pytest

from apps.notifications.selectors import forget_targets
from tests.unit.outgoing.conftest import authority, loopback, names

__all__ = ["authority", "loopback", "names"]


@pytest.fixture(autouse=True)
def _events_are_logged(settings) -> None:
    """Log events also where a test needs no subscription."""
    settings.EVENTS_LOG_ALWAYS = True


@pytest.fixture(autouse=True)
def _subscriptions_are_read_again() -> Iterator[None]:
    """Keep what one test's process knew from the next one."""
    forget_targets()
    yield
    forget_targets()
