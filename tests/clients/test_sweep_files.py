"""Rows of sweeps in files: kept, found again, judged anew, and as CSV."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from extracot_client import SweepProblem
from extracot_client.problem_files import SweepFileError
from extracot_client.sweep_files import RowStore, write_csv
from tests.clients.test_sweep_pictures import row


def asked(problem: str, answer: str | None = None) -> SweepProblem:
    return SweepProblem(problem, "q", answer)


def test_a_kept_row_is_judged_by_the_answer_as_it_is_now(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with RowStore(path) as store:
        store.add(row("a", 0.2, gold="4", boxed="5", correct=False))
        store.add(row("b", 0.2, boxed="7"))
    for answer, gold, right in (("5", "5", True), ("6", "6", False), (None, "6", False)):
        with RowStore(path) as store:
            found = store.get(asked("a", answer), 0.2, "f")
            assert found is not None and (found.gold, found.correct) == (gold, right)
    with RowStore(path) as store:
        found = store.get(asked("b", "7"), 0.2, "f")
        assert found is not None and found.correct, "one that had no answer has one now"
        lines = len(path.read_text().splitlines())
        assert store.get(asked("b", "7"), 0.2, "f") == found
        assert len(path.read_text().splitlines()) == lines, "written once"


def test_rows_are_kept_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    with RowStore(path) as store:
        store.add(row("a", 0.2))
        store.add(row("b", 0.2, error="ServerError: oops"))
        store.add(row("b", {"ratio": 0.4}))
    with path.open("ab") as file:
        file.write(b'{"problem_id": "c", "bud')  # as an interruption leaves it
    with RowStore(path) as store:
        assert (
            store.get(asked("a"), 0.2, "f") is not None
            and store.get(asked("a"), 0.2, "other") is None
        )
        assert store.get(asked("b"), 0.2, "f") is None and store.get(asked("c"), 0.2, "f") is None
        assert store.get(asked("b"), {"ratio": 0.4}, "f") is not None
        store.add(row("b", 0.2))
    with RowStore(path) as store:
        assert store.get(asked("b"), 0.2, "f") is not None
    assert [json.loads(line)["problem_id"] for line in path.read_text().splitlines()] == [*"abbb"]


def test_a_file_without_a_row_is_not_left_behind(tmp_path: Path) -> None:
    new, theirs = tmp_path / "new.jsonl", tmp_path / "empty.jsonl"
    theirs.touch()
    for path in (new, theirs):
        with RowStore(path):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["empty.jsonl"]


def test_a_file_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"precious": 1}\n')
    with pytest.raises(SweepFileError, match=r"rows\.jsonl:1: no row"), RowStore(path):
        pass
    assert path.read_text() == '{"precious": 1}\n'


@pytest.mark.parametrize("text", ["my notes", '{"precious": 1}', '{"problem": "x"', "1\nnotes"])
def test_a_last_line_of_somebody_else_is_no_torn_row(text: str, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(SweepFileError, match="name another output file"), RowStore(path):
        pass
    assert path.read_text() == text


@pytest.mark.parametrize("torn", [b"{", b'{"problem', b'{"problem_id":', b'{"problem_id":"c","bud'])
def test_a_torn_row_is_cut_off(torn: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(torn)
    with RowStore(path) as store:
        store.add(row("a", 0.2))
    assert [json.loads(line)["problem_id"] for line in path.read_text().splitlines()] == ["a"]


def test_csv_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    write_csv(path, [row("a", 0.2, answer='say "hi"\nok'), row("b", {"ratio": 1})])
    with path.open(newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert (first["problem_id"], first["budget"], first["answer"]) == ("a", "0.2", 'say "hi"\nok')
    assert second["budget"] == '{"ratio": 1}' and [p.name for p in tmp_path.iterdir()] == [
        path.name
    ]
