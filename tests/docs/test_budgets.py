"""docs/budgets.md: every default of the effort map, word of other vendors, and endpoint."""

from __future__ import annotations

import re
from pathlib import Path

from extracot_server.api.budget_words import WORDS
from extracot_server.app import openapi_document
from extracot_server.config.effort_map import DEFAULT_EFFORT_MAP

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "budgets.md").read_text(encoding="utf-8")


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("| \n").split("|")]


def test_the_table_of_efforts_is_the_default_map() -> None:
    head, _, row = TEXT[TEXT.index("| `reasoning_effort` |") :].splitlines()[:3]
    told = dict(zip(cells(head)[1:], cells(row)[1:], strict=True))
    assert told == {effort: str(budget) for effort, budget in DEFAULT_EFFORT_MAP.items()}


def test_the_table_of_words_is_complete() -> None:
    start = TEXT.index("| word | read as |")
    rows = TEXT[start : TEXT.index("\n\n", start)].splitlines()[2:]
    told = {word for row in rows for word in re.findall(r"`(\w+)`", cells(row)[0])}
    assert told == set(WORDS)


def test_every_endpoint_is_listed_and_no_other() -> None:
    rows = TEXT[TEXT.index("| path | what it returns |") :].splitlines()[2:]
    listed = {path for row in rows for path in re.findall(r"`(/\S+)`", cells(row)[0])}
    there = set(openapi_document()["paths"]) | {"/docs", "/openapi.json"}
    assert listed <= there
    # What has a name or a file in its path stands under the list that it is of.
    assert {path for path in there if not path.startswith(tuple(f"{p}/" for p in listed))} <= listed
