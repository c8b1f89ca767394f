"""``extracot``'s files and input: nothing is lost, written over or altered."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from extracot_client.commands import sweep
from tests.clients import fake_server as fake
from tests.clients.conftest import LiveServer
from tests.clients.fake_server import FakeServer
from tests.clients.test_cli import Captured, fails, run


@pytest.mark.parametrize("option", ["--out", "--csv", "--plot"])
def test_what_is_read_is_not_written_over(
    at_live: LiveServer, capsys: Captured, tmp_path: Path, option: str
) -> None:
    problems = tmp_path / "in.jsonl"
    problems.write_text('{"question": "1+1", "answer": "2"}\n')
    before = problems.read_text()
    for command in (["sweep", str(problems)], ["calibrate", "--problems", str(problems)]):
        if command[0] == "calibrate" and option == "--csv":
            continue
        more = ["--out", str(tmp_path / "x.json")] if option == "--plot" else []
        err = fails(capsys, 2, *command, option, str(problems), *more)
        assert f"{option} {problems}: named twice" in err
    assert problems.read_text() == before


def test_a_file_that_cannot_be_made_is_told_before_anything_is_asked(
    at_live: LiveServer, capsys: Captured, tmp_path: Path
) -> None:
    at_live.engine.requests.clear()
    problems = tmp_path / "in.jsonl"
    problems.write_text('"1+1"\n')
    for option in ("--csv", "--plot"):
        told = fails(capsys, 2, "sweep", str(problems), option, "/proc/x.csv")
        assert f"{option} /proc/x.csv: no file can be written there" in told
    assert not at_live.engine.requests


def test_a_table_is_shown_whatever_becomes_of_the_files(
    at_live: LiveServer, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "x.csv")

    monkeypatch.setattr(sweep, "write_csv", full)
    problems = tmp_path / "in.jsonl"
    problems.write_text('"1+1"\n')
    csv = str(tmp_path / "x.csv")
    assert run("sweep", str(problems), "--budgets", "native", "--csv", csv) == 2
    out, err = capsys.readouterr()
    assert "native" in out and "No space left" in err


def test_budgets_of_a_sweep_may_be_objects_and_lie_close(
    at_live: LiveServer, capsys: Captured, tmp_path: Path
) -> None:
    problems = tmp_path / "in.jsonl"
    problems.write_text('"1+1"\n')
    budgets = '{"ratio": 0.4, "enforce": "hard"},0.4,0.40000001, native'
    assert run("sweep", str(problems), "--budgets", budgets, "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    asked = [row["budget"] for row in rows]
    assert asked == [{"ratio": 0.4, "enforce": "hard"}, 0.4, 0.40000001, "native"]
    assert len({row["request_id"] for row in rows}) == 4
    assert "not JSON" in fails(capsys, 2, "sweep", str(problems), "--budgets", '{"ratio": 0.4,1')


def test_words_of_a_server_cannot_drive_the_terminal(capsys: Captured, tmp_path: Path) -> None:
    bad = fake.error(400, "bad \x1b]0;OWNED\x07\x1b[2J thing")
    problems = tmp_path / "in.jsonl"
    problems.write_text('"1+1"\n')
    with FakeServer([bad]) as server:
        at = ["--base-url", server.url]
        assert "thing" in fails(capsys, 1, "ask", "x", *at)
        run("sweep", str(problems), "--budgets", "native", "--model", "m", *at)
        assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize("command", [("ask", "-"), ("sweep", "-"), ("chat",)])
def test_what_is_read_is_not_altered(
    at_live: LiveServer, capsys: Captured, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    at_live.engine.requests.clear()
    raw = io.BytesIO(b'{"question": "caf\xe9 3+4"}\n')
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(raw, encoding="utf-8", errors="replace"))
    assert run(*command) == 2
    err = capsys.readouterr().err
    assert "standard input" in err and "utf-8" in err.lower() and "Traceback" not in err
    assert not at_live.engine.requests
