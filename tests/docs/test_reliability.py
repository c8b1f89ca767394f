"""The tests that documents name as proof are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


@pytest.mark.parametrize("document", ["docs/reliability.md", "SECURITY.md"])
def test_every_row_names_tests_that_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    named = NAMED.findall(text)
    assert len(named) > 12
    missing = [f"{path}::{test}" for path, test in named if test not in functions_of(ROOT / path)]
    assert missing == []


def test_every_fault_has_a_promise_and_a_test() -> None:
    rows = [
        line.strip("|").split("|")
        for line in (ROOT / "docs/reliability.md").read_text().splitlines()
        if line.startswith("|") and not line.startswith(("|---", "| fault"))
    ]
    assert len(rows) > 15
    for fault, promise, proof in rows:
        assert fault.strip() and promise.strip() and NAMED.search(proof), fault


def functions_of(path: Path) -> set[str]:
    """Names of the test functions in a file; none where there is no such file."""
    if not path.exists():
        return set()
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
