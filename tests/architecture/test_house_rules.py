"""Rules of the house that no linter knows."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.house_rules import ROOT, SOURCES, problems_of_transactions


@pytest.fixture(scope="module")
def broken_rules() -> dict[str, list[str]]:
    command = [sys.executable, "-m", "tests.architecture.house_rules"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_keeps_the_rules(path: Path, broken_rules: dict[str, list[str]]):
    assert broken_rules[str(path.relative_to(ROOT))] == []


def test_the_rule_on_transactions_sees_what_it_is_there_for():
    assert problems_of_transactions("with transaction.atomic():\n    pass") == [1]
    assert problems_of_transactions("@transaction.atomic\ndef f():\n    pass") == [1]
    assert problems_of_transactions("transaction.on_commit(f)") == [1]
    assert problems_of_transactions("with transaction.atomic(using=alias):\n    pass") == []
