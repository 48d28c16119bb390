"""gunicorn's configuration: what the environment decides, and which processor a worker gets."""

import os
import runpy
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.local.instance import ROOT


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch):
    """Read the configuration with some settings in the environment."""

    def read(**settings: str) -> dict[str, Any]:
        for name in ("PUBLIC", "INTERNAL"):
            monkeypatch.setenv(f"FLOODGATE_{name}_URL", "http://127.0.0.1:1")
        for name, value in settings.items():
            monkeypatch.setenv(f"FLOODGATE_{name}", value)
        return runpy.run_path(str(ROOT / "deploy" / "local" / "gunicorn.py"))

    return read


def test_workers_are_spread_over_the_processors(configured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 5})
    pre_fork = configured()["pre_fork"]
    server = SimpleNamespace(WORKERS={})
    for pid in (1, 2, 3):
        pre_fork(server, worker := SimpleNamespace())
        server.WORKERS[pid] = worker
    assert [worker.cpu for worker in server.WORKERS.values()] == [4, 5, 4]

    # The first one is gone, and the third: the next one gets the processor that is free.
    del server.WORKERS[1], server.WORKERS[3]
    pre_fork(server, worker := SimpleNamespace())
    assert worker.cpu == 4


@pytest.mark.parametrize(("setting", "masks"), [("on", [{4}]), ("off", [])])
def test_a_worker_keeps_to_its_processor_if_the_setting_says_so(configured, monkeypatch, setting, masks) -> None:
    seen: list[set[int]] = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, mask: seen.append(mask))
    config = configured(CPU_AFFINITY=setting)
    config["post_fork"].__globals__["_LIBC"] = SimpleNamespace(prctl=lambda *_: 0)
    config["post_fork"](SimpleNamespace(num_workers=2), SimpleNamespace(cpu=4))
    config["post_fork"](SimpleNamespace(num_workers=1), SimpleNamespace(cpu=4))
    assert seen == masks


def test_a_switch_that_is_neither_on_nor_off_is_told(configured) -> None:
    assert configured(REUSE_PORT="on")["reuse_port"] is True
    with pytest.raises(ValueError, match="say on or off"):
        configured(REUSE_PORT="yes")
