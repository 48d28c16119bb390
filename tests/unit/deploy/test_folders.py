"""Where an instance keeps its metrics, and that nothing of it is left behind."""

from pathlib import Path

import pytest

from deploy.local import instance as module
from deploy.local.errors import StackError
from deploy.local.instance import Instance, load_instance


@pytest.fixture
def memory(tmp_path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the file system in memory."""
    folder = tmp_path / "memory"
    folder.mkdir()
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "_MEMORY", folder)
    monkeypatch.setattr(module, "_LEAST_MEMORY_BYTES", 0)
    return folder


def _instance() -> Instance:
    return load_instance("test-folders", port_base=26000)


def test_metrics_lie_in_memory_and_go_with_the_instance(memory) -> None:
    instance = _instance()
    instance.make_folders()
    assert instance.metrics_folder.parent == memory
    assert instance.metrics_folder.stat().st_mode & 0o777 == 0o700

    counted = instance.metrics_folder / "counter_1.db"
    counted.touch()
    instance.forget_metrics()
    assert not counted.exists()

    instance.delete()
    assert list(memory.iterdir()) == []
    assert not instance.folder.exists()


@pytest.mark.parametrize("memory_is", ["missing", "too small"])
def test_without_enough_memory_for_them_metrics_lie_with_the_rest(memory, monkeypatch, memory_is) -> None:
    if memory_is == "missing":
        memory.rmdir()
    else:
        monkeypatch.setattr(module, "_LEAST_MEMORY_BYTES", 2**80)
    instance = _instance()
    instance.make_folders()
    assert instance.metrics_folder == instance.folder / "prometheus"
    assert instance.metrics_folder.is_dir()


def test_a_folder_that_somebody_else_has_put_there_is_refused(memory, monkeypatch) -> None:
    instance = _instance()
    instance.make_folders()
    owner = instance.metrics_folder.stat().st_uid
    path = instance.metrics_folder
    monkeypatch.setattr(module.os, "getuid", lambda: owner + 1)
    monkeypatch.setattr(Instance, "metrics_folder", property(lambda self: path))
    with pytest.raises(StackError, match="belongs to somebody else"):
        instance.make_folders()
