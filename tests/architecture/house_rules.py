"""Prints, as JSON by path, which rules of the house each module of the project breaks.

A program of its own, since Python 3.11 parses wrongly now and then where another thread parses too, and that of a test
run may at any time: whoever logs a traceback does (python/cpython#106905).
"""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for part in ("apps", "infra", "config") for path in (ROOT / part).rglob("*.py"))
MAX_LINES = 500


def _calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {name, f"transaction.{name}"}:
            yield node


def problems_of_transactions(source: str) -> list[int]:
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


def broken_rules(path: Path) -> list[str]:
    """Return what a module should mend."""
    source = path.read_text()
    docstring = ast.get_docstring(ast.parse(source))
    rules = {
        "say the module's role in its first line": not source.strip() or docstring or "migrations" in path.parts,
        "split it": source.count("\n") <= MAX_LINES,
        "a transaction names its alias": problems_of_transactions(source) == [],
        "INSERT IGNORE drops failed checks": "INSERT IGNORE" not in source.upper().replace("`INSERT IGNORE`", ""),
        "config/env.py reads the environment": (
            path.relative_to(ROOT).parts[0] == "config" or "os.environ" not in source
        ),
    }
    return [rule for rule, is_kept in rules.items() if not is_kept]


if __name__ == "__main__":
    print(json.dumps({str(path.relative_to(ROOT)): broken_rules(path) for path in SOURCES}))
