"""Fixtures of requests to the outside."""

from pathlib import Path

import pytest

from tests.factories.receivers import HOST, Authority, Names


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority that the tests' requests trust."""
    return Authority(Path(tmp_path_factory.mktemp("authority")))


@pytest.fixture
def names(monkeypatch) -> Names:
    """A resolver that knows one name, on loopback."""
    names = Names(monkeypatch)
    names.say(HOST, ["127.0.0.1"])
    return names


@pytest.fixture
def loopback(settings, names: Names, authority: Authority) -> Names:
    """Let requests go to loopback, and trust the tests' authority."""
    settings.OUTGOING_ALLOWED_NETWORKS = ["127.0.0.1/32"]
    settings.OUTGOING_CA_FILE = str(authority.file)
    return names
