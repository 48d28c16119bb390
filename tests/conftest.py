"""Fixtures that every test may use: the databases with their topology and months, and what the machine has."""

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import redis
import requests
from django.conf import settings
from django.db import connections
from django.test.utils import setup_databases, teardown_databases

from deploy.local.instance import SYSTEM_PATH
from infra.outgoing import client
from infra.sharding.bootstrap import make_months, seed_topology
from infra.sharding.months import Month
from infra.sharding.workers import give_back_lease

PARTS = {
    "chromium": lambda: shutil.which("chromium"),
    "msgfmt": lambda: shutil.which("msgfmt"),
    "wrk": lambda: shutil.which("wrk"),
    "nginx": lambda: shutil.which("nginx", path=SYSTEM_PATH),
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose part of the machine is missing, with the reason; under CI that is a failure."""
    for marker in item.iter_markers(name="needs"):
        part = marker.args[0]
        if not PARTS[part]():
            reason = f"{part} is not on this machine"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def _no_background_work() -> None:
    """Keep lease renewal and refreshing threads from reading the databases beside a test."""
    settings.BACKGROUND_STARTS_ON_USE = False


@pytest.fixture(scope="session")
def django_db_setup(
    request: pytest.FixtureRequest,
    django_test_environment: None,
    django_db_blocker: pytest.FixtureRequest,
    django_db_keepdb: bool,
    django_db_createdb: bool,
) -> Iterator[None]:
    """Make all test databases, and in them what their tables alone do not make: slot map, fences, months.

    pytest-django's own fixture would make only those that collected tests name in a `django_db` mark.
    """
    with django_db_blocker.unblock():
        configuration = setup_databases(
            verbosity=request.config.option.verbose,
            interactive=False,
            keepdb=django_db_keepdb and not django_db_createdb,
        )
        seed_topology()
        this_month = Month.of(datetime.now(UTC))
        for month in (this_month.previous(), this_month, this_month.next()):
            make_months(month, forecast=100_000)
        for alias in settings.DATABASES:
            connections[alias].close()
    yield
    with django_db_blocker.unblock():
        give_back_lease()
        if not django_db_keepdb:
            teardown_databases(configuration, verbosity=request.config.option.verbose)


@pytest.fixture
def committed(django_db_setup: None, django_db_blocker: pytest.FixtureRequest) -> Iterator[None]:
    """Let the test commit for real, as threads and processes need; nothing is cleaned up behind it.

    Such a test works on users, SKUs and orders of its own, so that it neither sees nor hurts another one's.
    """
    with django_db_blocker.unblock():
        yield
        for alias in settings.DATABASES:
            connections[alias].close()


def _refuse_inside_a_transaction(what: str) -> None:
    """Fail if any database connection of this thread is in a transaction that the tested code opened itself."""
    for connection in connections.all(initialized_only=True):
        own = [block for block in connection.atomic_blocks if not block._from_testcase]
        assert not own, f"{what} inside a transaction on {connection.alias}"


@pytest.fixture(autouse=True)
def orders_are_committed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write each order in its own thread: a batch's thread sees nothing of a transaction that is rolled back later.

    Tests of batches set their size.
    """
    monkeypatch.setattr(settings, "ORDER_COMMIT_BATCH", 1)


@pytest.fixture(autouse=True)
def no_network_inside_a_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no Redis or HTTP call be made while row locks are held: they would be held as long as it hangs."""
    send_command, send_packed = redis.Connection.send_command, redis.Connection.send_packed_command
    send_request = requests.Session.send
    connect_outside = client._PinnedConnection.connect

    def guarded_command(self, *args, **kwargs):
        _refuse_inside_a_transaction("a Redis call")
        return send_command(self, *args, **kwargs)

    def guarded_packed(self, *args, **kwargs):
        _refuse_inside_a_transaction("a Redis call")
        return send_packed(self, *args, **kwargs)

    def guarded_request(self, *args, **kwargs):
        _refuse_inside_a_transaction("an HTTP request")
        return send_request(self, *args, **kwargs)

    def guarded_connect(self):
        _refuse_inside_a_transaction("a request to the outside")
        return connect_outside(self)

    monkeypatch.setattr(redis.Connection, "send_command", guarded_command)
    monkeypatch.setattr(redis.Connection, "send_packed_command", guarded_packed)
    monkeypatch.setattr(requests.Session, "send", guarded_request)
    monkeypatch.setattr(client._PinnedConnection, "connect", guarded_connect)
