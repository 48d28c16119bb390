"""What every test of the catalog starts from: a process that has cached nothing."""

import pytest

from apps.catalog import selectors


@pytest.fixture(autouse=True)
def _nothing_cached() -> None:
    selectors.forget_cached()
