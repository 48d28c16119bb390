"""Both workers over the same site, and the lean one with limits that a test can wait for."""

import pytest

from tests.integration.http.clients import LEAN, STOCK, Gunicorn, gunicorn


@pytest.fixture(scope="package")
def lean(tmp_path_factory: pytest.TempPathFactory):
    """The lean worker as it is deployed."""
    with gunicorn(tmp_path_factory.mktemp("lean"), LEAN) as server:
        yield server


@pytest.fixture(scope="package")
def stock(tmp_path_factory: pytest.TempPathFactory):
    """gunicorn's own gevent worker, with problem answers."""
    # It waits its whole grace for idle connections.
    with gunicorn(tmp_path_factory.mktemp("stock"), STOCK, "--graceful-timeout", "1") as server:
        yield server


@pytest.fixture(params=["lean", "stock"])
def worker(request: pytest.FixtureRequest) -> Gunicorn:
    """Either of them."""
    return request.getfixturevalue(request.param)
