"""The ``extracot`` command and what people type: unknown flags, ways to leave, field names."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from extracot_client.commands.compare import sampling_line
from extracot_client.problem_files import SweepFileError, read_problems
from extracot_client.requests import SolveOptions
from tests.clients import fake_server as fake
from tests.clients.fake_server import GOOD, FakeServer
from tests.clients.test_cli import Captured, fails, run, stdin


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("ask", "--bugdet", "0.2", "hi"), "unknown flag --bugdet; did you mean --budget?"),
        (("ask", "hi", "--bugdet=0.2"), "unknown flag --bugdet; did you mean --budget?"),
        (("compare", "hi", "--budgts", "0.2"), "unknown flag --budgts; did you mean --budgets?"),
        (("sweep", "f.jsonl", "--lmit", "2"), "unknown flag --lmit; did you mean --limit?"),
        (("models", "--base-ulr", "x"), "unknown flag --base-ulr; did you mean --base-url?"),
        (("ask", "hi", "--url", "x"), "unknown flag --url; did you mean --base-url?"),
        (("ask", "hi", "--effort", "low"), "unknown flag --effort; did you mean --budget?"),
        (("--modle", "x", "ask", "hi"), "unknown flag --modle; did you mean --model?"),
        (("--model", "x", "ask", "hi"), "--model goes behind the command"),
        (("ask", "hi", "--zzz"), "unknown flag --zzz (see extracot ask --help)"),
    ],
)
def test_an_unknown_flag_is_named_with_the_nearest(
    capsys: Captured, argv: tuple[str, ...], told: str
) -> None:
    assert told in fails(capsys, 2, *argv)


def test_flags_may_be_shortened_and_follow_two_dashes(capsys: Captured) -> None:
    with FakeServer([fake.stream(*GOOD)]) as server:
        assert run("--base", server.url, "ask", "--temp", "0", "--", "--bugdet") == 0
        assert server.seen[0].json["messages"][-1]["content"] == "--bugdet"


@pytest.mark.parametrize("word", ["exit", "quit", "Exit", "/exit", "/quit"])
def test_a_word_ends_a_chat(capsys: Captured, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    stdin(monkeypatch, f"one\n{word}\nnever\n")
    with FakeServer([fake.stream(*GOOD)]) as server:
        assert run("chat", "--base-url", server.url) == 0
        assert len(server.seen) == 1


@pytest.mark.parametrize(("command", "depends"), [("calibrate", True), ("adherence", False)])
def test_help_says_which_prompt_a_command_sends(
    command: str, depends: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command, "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert ("where the server has no instruction of its own" in text) is depends
    assert "line that asks for the final answer in a box)" in text


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "sampling: the model's own; one reply a budget, drawn at random: another run differs"),
        ({"temperature": 0.7, "seed": 3}, "sampling: temperature 0.7, seed 3; one reply a budget"),
    ],
)
def test_compare_says_how_replies_were_drawn(options: SolveOptions, told: str) -> None:
    assert sampling_line(options) == told


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"prompt": "q", "final": 7}, "7"),
        ({"prompt": "q", "solution": "2 + 5\n#### 7"}, "7"),
        ({"problem": "q", "solution": "It is \\boxed{7}.", "answer": "7"}, "7"),
        ({"question": "q", "solution": "no box here", "answer": "7"}, "7"),
        ({"question": "q", "solution": None}, None),
    ],
)
def test_a_known_answer_goes_by_many_names(row: dict[str, object], answer: str | None) -> None:
    (problem,) = read_problems(io.StringIO(json.dumps(row)), "in", as_csv=False)
    assert problem.answer == answer


def test_a_solution_without_an_answer_says_which_field_it_needs(tmp_path: Path) -> None:
    row = json.dumps({"question": "q", "solution": "First add.\nThen double them all."})
    with pytest.raises(SweepFileError, match=r"in:1: field 'solution' .* or the field 'answer'"):
        read_problems(io.StringIO(row), "in", as_csv=False)
