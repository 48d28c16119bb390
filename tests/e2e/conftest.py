"""A whole running stack for the end-to-end tests, beside the servers of the other tests."""

from collections.abc import Iterator

import pytest

from tests.e2e.stack import Stack


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give these tests longer: the first one starts a whole stack, others wait for the recovery bounds."""
    for item in items:
        if "e2e" in item.path.parts and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(400))


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Bring the instance `e2e` up for this session, and down at its end."""
    running = Stack.start()
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def healthy(stack: Stack) -> Iterator[Stack]:
    """A stack that is `ok` before the test and `ok` again after it, whatever the test did to it."""
    stack.wait_until_ok()
    yield stack
    stack.resume_all()
    stack.wait_until_ok()
