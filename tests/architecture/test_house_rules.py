"""Rules of the house that no linter knows."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for part in ("apps", "infra", "config") for path in (ROOT / part).rglob("*.py"))
MAX_LINES = 500


def _calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {name, f"transaction.{name}"}:
            yield node


def _problems_of_transactions(source: str) -> list[int]:
    tree = ast.parse(source)
    bare = [
        call.lineno
        for name in ("atomic", "on_commit")
        for call in _calls(tree, name)
        if not any(keyword.arg == "using" for keyword in call.keywords) and not (name == "atomic" and call.args)
    ]
    decorated = [
        decorator.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
        if ast.unparse(decorator) in {"transaction.atomic", "atomic"}
    ]
    return sorted(bare + decorated)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_keeps_the_rules(path: Path):
    source = path.read_text()
    if source.strip():
        assert ast.get_docstring(ast.parse(source)) or "migrations" in path.parts, (
            "say the module's role in its first line"
        )
    assert source.count("\n") <= MAX_LINES, "split it"
    assert _problems_of_transactions(source) == [], "a transaction names its alias"
    assert "INSERT IGNORE" not in source.upper().replace("`INSERT IGNORE`", ""), "it drops failed checks"
    if path.relative_to(ROOT).parts[0] != "config":
        assert "os.environ" not in source, "config/env.py reads the environment"


def test_the_rule_on_transactions_sees_what_it_is_there_for():
    assert _problems_of_transactions("with transaction.atomic():\n    pass") == [1]
    assert _problems_of_transactions("@transaction.atomic\ndef f():\n    pass") == [1]
    assert _problems_of_transactions("transaction.on_commit(f)") == [1]
    assert _problems_of_transactions("with transaction.atomic(using=alias):\n    pass") == []
