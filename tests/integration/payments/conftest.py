"""A sandbox process for the module's tests, and the application pointed at it."""

from collections.abc import Iterator

import pytest
from django.conf import settings as django_settings

from apps.payments.providers import registry
from tests.factories.payments import SECRET, Listener, RunningSandbox, running_sandbox


@pytest.fixture(scope="module")
def bank_listener() -> Iterator[Listener]:
    """Takes the bank's callbacks; a test hands them on when it wants them to arrive."""
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture(scope="module")
def bank_process(tmp_path_factory: pytest.TempPathFactory, bank_listener: Listener) -> Iterator[RunningSandbox]:
    with running_sandbox(tmp_path_factory.mktemp("bank"), callback_url=bank_listener.url) as sandbox:
        yield sandbox


@pytest.fixture
def bank(bank_process: RunningSandbox, settings: object) -> Iterator[RunningSandbox]:
    """The sandbox that the application's provider talks to; orders' payments there are the test's own."""
    options = {**django_settings.PAYMENT_PROVIDERS["sandbox"], "url": bank_process.url, "secret": SECRET}
    settings.PAYMENT_PROVIDERS = {"sandbox": options}
    registry._build.cache_clear()
    yield bank_process
    registry._build.cache_clear()


@pytest.fixture(params=["shard_0", "shard_1"])
def alias(request: pytest.FixtureRequest) -> str:
    """Each shard in turn."""
    return str(request.param)
