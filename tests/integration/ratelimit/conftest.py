"""Limits as they are by default, before and after each test."""

from collections.abc import Callable, Iterator

import pytest

from infra.dynamic.definitions import DEFINED
from infra.ratelimit import services


@pytest.fixture(autouse=True)
def _defaults() -> Iterator[None]:
    services.forget()
    yield
    for definition in DEFINED.values():
        definition.value = definition.default
    services.forget()


@pytest.fixture
def set_now() -> Callable[..., None]:
    """Let values hold in this process, as reading them from the database does: name parts joined by `__`."""

    def set_values(**values: int) -> None:
        for name, value in values.items():
            DEFINED["limits." + name.replace("__", ".")].value = value
        services.forget()

    return set_values
