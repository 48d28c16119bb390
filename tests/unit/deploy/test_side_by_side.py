"""All tests at once: the end-to-end tests run beside the others, and neither's failure is lost."""

import sys

import pytest

from deploy.local import commands
from deploy.local.instance import Instance, load_instance

# Stands for pytest: tells what it was asked to run, and exits with the status that the environment gives to that.
_RUN = """
import os, sys
name = "others" if "--ignore" in sys.argv[1] else "end to end"
print(name, sys.argv[1:], flush=True)
sys.exit(int(os.environ["STATUS_OF_" + name.upper().replace(" ", "_")]))
"""


@pytest.fixture
def instance(monkeypatch: pytest.MonkeyPatch, tmp_path) -> Instance:
    monkeypatch.setattr(commands, "_PYTEST", [sys.executable, "-c", _RUN])
    monkeypatch.setattr(Instance, "log_folder", tmp_path)
    monkeypatch.setattr(Instance, "environment", lambda self: {})
    return load_instance("test-side-by-side", port_base=26000)


@pytest.mark.parametrize(("others", "end_to_end", "status"), [(0, 0, 0), (1, 0, 1), (0, 1, 1), (2, 1, 2)])
def test_the_status_is_that_of_a_run_that_failed(instance, monkeypatch, others, end_to_end, status):
    monkeypatch.setenv("STATUS_OF_OTHERS", str(others))
    monkeypatch.setenv("STATUS_OF_END_TO_END", str(end_to_end))
    assert commands._test_side_by_side(instance) == status


def test_what_each_run_says_is_told_as_a_whole(instance, monkeypatch, capfd):
    monkeypatch.setenv("STATUS_OF_OTHERS", "0")
    monkeypatch.setenv("STATUS_OF_END_TO_END", "0")
    commands._test_side_by_side(instance)
    assert capfd.readouterr().out.splitlines() == [
        "others ['--ignore=tests/e2e']",
        "tests/e2e, which ran beside these:",
        "end to end ['tests/e2e']",
    ]
