"""What a start does with programs that run already: nothing, a reload, or a restart."""

import pytest

from deploy.local import application
from deploy.local.instance import Instance, load_instance
from deploy.local.supervision import ProcessState, Program

RELOADING = Program("web", ("web",), reloads_on_hangup=True)
OTHER = Program("worker", ("worker",))


class _Supervisor:
    """Notes what it is asked for; both programs run."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def states(self) -> dict[str, ProcessState]:
        return {program.name: ProcessState(program.name, "RUNNING", 0, 100, "") for program in (RELOADING, OTHER)}

    def signal(self, name: str, signal_name: str) -> None:
        self.asked.append((signal_name, name))

    def stop_all(self, programs: list[Program]) -> None:
        self.asked += [("stop", program.name) for program in programs]

    def start(self, name: str) -> None:
        self.asked.append(("start", name))


@pytest.mark.parametrize(
    ("is_current", "can_reload", "asked"),
    [
        (True, True, []),
        (False, True, [("HUP", "web"), ("stop", "worker"), ("start", "worker")]),
        (False, False, [("stop", "web"), ("stop", "worker"), ("start", "web"), ("start", "worker")]),
    ],
    ids=["nothing changed", "code changed", "settings changed"],
)
def test_what_runs_is_reloaded_or_restarted_as_the_change_needs(is_current, can_reload, asked) -> None:
    supervisor = _Supervisor()
    replaced = application._start_programs(
        [RELOADING, OTHER],
        supervisor,  # type: ignore[arg-type]
        is_current=is_current,
        can_reload=can_reload,
    )
    assert supervisor.asked == asked
    assert replaced.keys() == {name for signal_name, name in asked if signal_name == "HUP"}


def test_a_changed_setting_and_changed_code_are_told_apart(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Instance, "secrets", lambda self: {"FLOODGATE_DB_PASSWORD": "x"})
    monkeypatch.setattr(application, "ROOT", tmp_path)
    monkeypatch.setattr(application, "_CODE_FOLDERS", ("code", "server"))
    monkeypatch.setattr(application, "_SERVER_FOLDER", "server")
    for name in ("requirements/base.txt", "code/views.py", "server/master.py"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("old")
    instance = load_instance("test-restarts", port_base=26000)

    def changed_by(change: str) -> tuple[bool, bool]:
        before = application._version(instance)
        if change == "setting":
            monkeypatch.setenv("FLOODGATE_WORKERS", "3")
        else:
            (tmp_path / change).write_text("changed")
        once, rest = application._version(instance)
        return once != before[0], rest != before[1]

    assert changed_by("code/views.py") == (False, True)
    assert changed_by("server/master.py") == (True, True)
    assert changed_by("requirements/base.txt") == (True, False)
    assert changed_by("setting") == (True, False)
