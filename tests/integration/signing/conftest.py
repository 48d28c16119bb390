"""Fixtures of the tests of request signing."""

from collections.abc import Iterator

import pytest

from infra.signing.clients import KNOWN_KEYS


@pytest.fixture(autouse=True)
def _fresh_memory() -> Iterator[None]:
    """Begin each test as a process that has read no keys."""
    KNOWN_KEYS.forget()
    yield
    KNOWN_KEYS.forget()
