"""Fixtures of the users' tests."""

from collections.abc import Iterator

import pytest

from apps.users.access_tokens import access_tokens
from apps.users.revocations import revocations
from apps.users.slowdown import LoginSlowdown


@pytest.fixture(autouse=True)
def _fresh_memory() -> Iterator[None]:
    """Begin each test as a process that has read no feed and verified no token."""
    access_tokens.forget()
    revocations.forget()
    yield
    access_tokens.forget()
    revocations.forget()


@pytest.fixture(autouse=True)
def slowdown(monkeypatch: pytest.MonkeyPatch) -> LoginSlowdown:
    """Count failed logins anew for each test; what is in Redis is by login and address, which are each test's own."""
    counts = LoginSlowdown()
    for module in ("sessions", "proof"):
        monkeypatch.setattr(f"apps.users.services.{module}.login_slowdown", lambda: counts)
    return counts
