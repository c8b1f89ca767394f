"""The ``extracot`` command in this process, against the real app and against broken servers."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pytest

import extracot
from extracot_client.cli import build_parser, main
from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.clients import fake_server as fake
from tests.clients.conftest import LiveServer, serve
from tests.clients.fake_server import GOOD, FakeServer

PROBLEM = "What is 12 * 12?"
Captured = pytest.CaptureFixture[str]


def stdin(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def fails(capsys: Captured, code: int, *argv: str) -> str:
    """Run, expect ``code`` and one line of complaint; gives it."""
    assert run(*argv) == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("extracot: ") and err.count("\n") == 1
    assert "Traceback" not in err
    return err


def run(*argv: str) -> int:
    """The exit code, also where argparse ends the process."""
    try:
        return main(argv)
    except SystemExit as exit:
        return int(exit.code or 0)


def test_ask_gives_the_bare_answer_and_a_summary(at_live: LiveServer, capsys: Captured) -> None:
    assert run("ask", PROBLEM, "--budget", "0.2") == 0
    out, err = capsys.readouterr()
    assert out.startswith("The answer is \\boxed{") and out.count("\n") == 1
    assert err.startswith("budget 0.2 · reasoning ") and "saved ≈" in err
    assert "of 100 expected" in err and "first token" in err and err.count("\n") == 1
    assert "\x1b" not in out + err


def test_ask_shows_and_hides(
    at_live: LiveServer, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("ask", PROBLEM, "--reasoning", "show", "-q", "-b", "auto") == 0
    out, err = capsys.readouterr()
    reasoning, _, answer = out.rpartition("\n\n")
    assert reasoning and answer.startswith("The answer") and err == ""
    stdin(monkeypatch, f"\n{PROBLEM}\n")
    assert run("ask", "-", "-b", "none") == 0
    assert capsys.readouterr().err.startswith("budget none · reasoning 0 ")


def test_ask_json(at_live: LiveServer, capsys: Captured) -> None:
    assert run("ask", PROBLEM, "-b", '{"ratio": 0.8, "max_reasoning_tokens": 5}', "--json") == 0
    out, err = capsys.readouterr()
    solution = json.loads(out)
    assert err == "" and solution["budget"]["cap_hit"] is True
    assert solution["usage"]["completion_tokens_details"]["reasoning_tokens"] == 5
    assert solution["boxed"] and solution["timings"]["total"] > 0


def test_summary_lines_are_honest(capsys: Captured) -> None:
    def summary(**report: object) -> str:
        frames = [*GOOD[:-2], fake.last_chunk(**{**fake.REPORT, **report}), fake.DONE]
        with FakeServer([fake.stream(*frames)]) as server:
            assert run("ask", "x", "--base-url", server.url) == 0
        return capsys.readouterr().err

    assumed = summary(saved_tokens_estimate=None, baseline_tokens=512, baseline_source="assumed")
    assert "saving not counted (the baseline of 512 is assumed, not measured)" in assumed
    assert "saving unknown (no baseline)" in summary()
    assert "overspent ≈20 reasoning tokens (20% of 100 expected), saved ≈5 in all" in summary(
        saved_tokens_estimate=-20,
        total_saved_tokens_estimate=5,
        baseline_tokens=100,
        baseline_source="card",
    )
    cut = {"baseline_tokens": 100, "baseline_source": "card", "no_saving": "unfinished"}
    assert "(cut off, or without an answer), overspent ≈400 in all" in summary(
        total_saved_tokens_estimate=-400, **cut
    )
    assert "(cut off, or without an answer) ·" in summary(total_saved_tokens_estimate=0, **cut)
    unlike = summary(no_saving="unlike_card", baseline_tokens=100, baseline_source="card")
    assert (
        "saving not counted (the prompt is unlike the card's problems: see extracot card)" in unlike
    )
    assert "native, so nothing saved" in summary(level="native", baseline_tokens=10)
    warned = summary(unclosed=True, cap_hit=True, ignored_fields=["odd"])
    assert warned.rstrip().endswith("the reasoning never ended · reasoning cap hit · ignored: odd")
    assert "budget auto → 0.4" in summary(requested="auto", level="auto", chosen="0.4")
    assert summary(source=None, level=None).startswith("no budget report · ")


def test_streams_that_were_closed_before_the_start(
    at_live: LiveServer, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, argv, code in (
        ("stdin", ["ask", "-"], 2),  # of an empty problem
        ("stdout", ["models"], 0),
        ("stderr", ["ask", PROBLEM], 0),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(sys, name, None)
            assert run(*argv) == code
            getattr(sys, name).close()
    out, err = capsys.readouterr()
    assert "The problem is empty" in err and out.startswith("The answer")


def test_compare(at_live: LiveServer, capsys: Captured) -> None:
    assert run("compare", PROBLEM) == 0
    head, *lines, sampling, saved = capsys.readouterr().out.splitlines()
    assert saved.startswith("saved: tokens less than the native reply of this table")
    assert sampling.startswith("sampling: the model's own; one reply a budget")
    words = "budget level reasoning tokens saved in reasoning first total answer"
    assert head.split() == words.split()
    budgets = ["0.2", "0.4", "0.6", "0.8", "1", "auto", "native", "none"]
    assert [line.split()[0] for line in lines] == budgets
    assert run("compare", PROBLEM, "--budgets", "0.2, native,0.2", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["budget"] for row in rows] == [0.2, "native"]
    assert rows[0]["reasoning_tokens"] < rows[1]["reasoning_tokens"]
    saved = rows[1]["completion_tokens"] - rows[0]["completion_tokens"]
    assert (rows[0]["saved_against"], rows[0]["total_saved_tokens"]) == ("native rows", saved)
    assert (rows[1]["saved_against"], rows[1]["total_saved_tokens"]) == (None, None)


def test_models_and_card(at_live: LiveServer, capsys: Captured) -> None:
    assert run("models") == 0
    _head, only = capsys.readouterr().out.splitlines()
    assert only.startswith("scripted  token") and "@0.2" in only and "@auto" in only
    assert run("models", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["id"] == "scripted"
    assert run("card") == 0
    out = capsys.readouterr().out
    assert "scripted: token mode" in out and "<COMP_20>" in out and "baseline: card" in out
    assert run("card", "--json") == 0
    assert json.loads(capsys.readouterr().out)["card"]["version"] == 1


def test_the_card_says_what_the_model_knows(capsys: Captured) -> None:
    prompts = {"min_characters": 277, "max_characters": 444, "words": ["a"]}
    card = {"domain": "sums", "examples": ["What is 1 + 1?", "more"], "prompts": prompts}
    with FakeServer([fake.reply(200, {"model": "m", "mode": "token", "card": card})]) as server:
        assert run("card", "--base-url", server.url) == 0
    out = capsys.readouterr().out
    assert "knows: sums\nfor example: What is 1 + 1?\nspeaks of: prompts in its problems'" in out
    assert "of 277 to 444 characters" in out and "more" not in out


def test_a_server_without_a_card(capsys: Captured) -> None:
    page = {"model": "m", "mode": "cap", "baseline": {"source": "assumed"}, "card": None}
    with FakeServer([fake.reply(200, page)]) as server:
        assert run("card", "--base-url", server.url) == 0
    out = capsys.readouterr().out
    assert "a ratio is a cap" in out and "never counted as savings" in out


def test_sweep_keeps_resumes_and_adds_up(
    at_live: LiveServer, capsys: Captured, tmp_path: Path
) -> None:
    problems, kept = tmp_path / "in.csv", tmp_path / "rows.jsonl"
    problems.write_text("id,question,answer\n1,What is 2 + 2?,4\n2,What is 3 * 5?,15\n")
    table, picture = tmp_path / "t.csv", tmp_path / "p.png"
    command = ["sweep", str(problems), "--budgets", "0.2,native", "--out", str(kept)]
    command += ["--csv", str(table), "--plot", str(picture)]
    assert run(*command) == 0
    out, err = capsys.readouterr()
    assert [line.split()[:3] for line in out.splitlines()[1:3]] == [
        ["0.2", "2", "0"],
        ["native", "2", "0"],
    ]
    assert "4/4" in err and f"picture: {picture}" in err
    assert len(kept.read_text().splitlines()) == 4
    with table.open(newline="") as file:
        assert [row["problem_id"] for row in csv.DictReader(file)] == ["1", "1", "2", "2"]

    at_live.engine.requests.clear()
    assert run(*command, "--json") == 0  # nothing is asked again
    out, err = capsys.readouterr()
    assert f"4 of 4 rows are in {kept} already" in err
    told = json.loads(out)
    assert len(at_live.engine.requests) == 0 and len(told["rows"]) == 4
    assert [summary["n"] for summary in told["summary"]] == [2, 2]

    lines = kept.read_text().splitlines(keepends=True)
    kept.write_text("".join(lines[:2]) + lines[2][:40])  # torn by an interruption
    capsys.readouterr()
    assert run(*command, "--limit", "2") == 0
    assert len(at_live.engine.requests) == 2 and len(kept.read_text().splitlines()) == 4
    assert "4/4" in capsys.readouterr().err


def test_sweep_with_failures(capsys: Captured, tmp_path: Path) -> None:
    problems, kept = tmp_path / "in.jsonl", tmp_path / "rows.jsonl"
    problems.write_text('"one"\n"two"\n')
    command = ["sweep", str(problems), "--budgets", "0.2", "-o", str(kept), "--concurrency", "1"]
    command += ["--model", "m"]
    with FakeServer([fake.error(404), fake.error(500, "oops"), fake.stream(*GOOD)]) as server:
        assert run(*command, "--base-url", server.url) == 1
        err = capsys.readouterr().err
        assert "1 of 2 requests failed; run the same command again" in err and "oops" in err
        assert run(*command, "--base-url", server.url) == 0
        asked = [seen.path for seen in server.seen if seen.method == "POST"]
        assert len(asked) == 3
    assert "0.2     2       0" in capsys.readouterr().out


def test_chat_keeps_the_conversation(
    at_live: LiveServer, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin(monkeypatch, "What is 2 + 2?\n\n/budget 0.2\nAnd twice?\n/reset\n/what\n/quit\nnever\n")
    assert run("chat", "--budget", "none", "--json") == 0
    out, err = capsys.readouterr()
    first, second = (json.loads(line) for line in out.splitlines())
    assert (first["budget"]["level"], second["budget"]["level"]) == ("none", "0.2")
    assert second["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"]
    assert err.splitlines()[:2] == ["budget 0.2", "a new conversation"]


def test_chat_sends_answers_without_reasoning_and_survives_a_refusal(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin(monkeypatch, "one\ntwo\nthree\n")
    handlers = [fake.stream(*GOOD), fake.error(400, "no two"), fake.stream(*GOOD)]
    with FakeServer(handlers) as server:
        assert run("chat", "--base-url", server.url) == 1
        assert server.seen[2].json["messages"] == [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "It is \\boxed{4}."},
            {"role": "user", "content": "three"},
        ]
    out, err = capsys.readouterr()
    assert out == "It is \\boxed{4}.\n" * 2 and "no two (HTTP 400)" in err


def test_chat_refuses_a_wrong_budget_at_once(
    at_live: LiveServer, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = ["foo", "1.5", "nan", "{broken", '{"ratio": "foo"}', "a number in (0, 1]"]
    stdin(monkeypatch, "/budget 0.4\n" + "".join(f"/budget {text}\n" for text in wrong) + "Hi?\n")
    assert run("chat", "--json") == 1
    out, err = capsys.readouterr()
    first, *refused = err.splitlines()
    assert first == "budget 0.4" and len(refused) == len(wrong)
    assert refused[0].startswith("no budget: foo. Allowed: a number in (0, 1], ")
    assert refused[0].endswith("It stays 0.4")
    assert json.loads(out)["budget"]["level"] == "0.4"


def test_chat_after_quit_is_well_whatever_failed(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin(monkeypatch, "one\n/quit\n")
    with FakeServer([fake.error(400, "no one")]) as server:
        assert run("chat", "--base-url", server.url) == 0
    assert "no one (HTTP 400)" in capsys.readouterr().err


def test_wrong_budgets_are_the_servers_to_refuse(at_live: LiveServer, capsys: Captured) -> None:
    for budget in ("fast", "1.2", "nan", '{"speed": 1}'):
        err = fails(capsys, 1, "ask", PROBLEM, "-b", budget)
        assert "Allowed: " in err and "HTTP 400" in err


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("nonsense",),
        ("ask",),
        ("ask", "x", "--budgets", "0.2"),
        ("ask", "x", "--seed", "many"),
        ("ask", " "),
        ("ask", "x", "-b", "{broken"),
        ("ask", "x", "--timeout", "-1"),
        ("ask", "x", "--base-url", "nowhere"),
        ("ask", "x", "--api-key", "a b"),
        ("compare", "x", "--budgets", ","),
        ("sweep", "/nowhere/in.jsonl", "--budgets", "0.2"),
        ("sweep", "/", "--budgets", "0.2"),
        ("playground", "--json"),
        ("playground", "--port", "99999"),
        ("playground", "--port", "0"),
        ("playground", "--host", "192.0.2.1"),
    ],
)
def test_wrong_usage_is_2(capsys: Captured, argv: tuple[str, ...]) -> None:
    fails(capsys, 2, *argv)


def test_the_version(capsys: Captured) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"extracot {extracot.__version__}\n"


def test_the_server_may_be_named_before_the_command(
    live: LiveServer, no_server: str, capsys: Captured
) -> None:
    assert run("--base-url", live.url, "--json", "models") == 0
    assert json.loads(capsys.readouterr().out)[0]["id"] == "scripted"
    assert run("--base-url", no_server, "models", "--base-url", live.url) == 0  # the last counts
    assert "scripted" in capsys.readouterr().out


def test_a_taken_port_is_said_without_gradios_words(live: LiveServer, capsys: Captured) -> None:
    pytest.importorskip("gradio")
    port = live.url.rpartition(":")[2]
    err = fails(capsys, 2, "playground", "--port", port)
    assert (
        f"cannot listen on 127.0.0.1:{port}: Address already in use" in err and "GRADIO" not in err
    )


def test_a_key_is_needed_and_never_shown(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(ScriptedBehaviour(), api_key="the-right-secret") as server:
        monkeypatch.setenv("EXTRACOT_BASE_URL", server.url)
        for command in (("ask", "x"), ("compare", "x"), ("models",), ("card",)):
            assert "HTTP 401" in fails(capsys, 1, *command)
            err = fails(capsys, 1, *command, "--api-key", "some-wrong-secret")
            assert "HTTP 401" in err and "secret" not in err
        monkeypatch.setenv("EXTRACOT_API_KEY", "the-right-secret")
        assert run("ask", PROBLEM, "-q") == 0
        assert "boxed" in capsys.readouterr().out


def test_files_that_cannot_be_used_are_2(
    at_live: LiveServer, capsys: Captured, tmp_path: Path
) -> None:
    at_live.engine.requests.clear()
    problems = tmp_path / "in.jsonl"
    problems.write_bytes(b'"caf\xe9"\n')
    assert "not UTF-8" in fails(capsys, 2, "sweep", str(problems), "--budgets", "0.2")
    problems.write_text('"ok"\n{"oops"\n')
    assert "in.jsonl:2" in fails(capsys, 2, "sweep", str(problems), "--budgets", "0.2")
    problems.write_text('"ok"\n')
    assert fails(capsys, 2, "sweep", str(problems), "--budgets", "0.2", "--limit", "0")
    here, below = str(tmp_path / "x.csv"), str(problems / "below.jsonl")
    for outputs in (["-o", below], ["--csv", below], ["--plot", str(tmp_path)]):
        fails(capsys, 2, "sweep", str(problems), "--budgets", "0.2", *outputs)
    fails(capsys, 2, "sweep", str(problems), "--budgets", "0.2", "-o", here, "--csv", here)
    problems.write_text('"\\ud800 x"\n')
    assert "in.jsonl:1: holds half" in fails(capsys, 2, "sweep", str(problems), "--budgets", "0.2")
    assert len(at_live.engine.requests) == 0


@pytest.mark.parametrize("command", [("models",), ("card",), ("ask", "x"), ("compare", "x")])
def test_no_server_is_one_line(capsys: Captured, no_server: str, command: tuple[str, ...]) -> None:
    err = fails(capsys, 1, *command, "--base-url", no_server)
    assert f"No server answers at {no_server}" in err


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (fake.error(401, "Incorrect API key"), "Incorrect API key (HTTP 401)"),
        (fake.reply(502, "<html><title>Bad Gateway</title></html>"), "titled 'Bad Gateway'"),
        (fake.reply(200, "<html>hi"), "a web page"),
        (fake.stream(b"data: {broken\n\n"), "an event that is not JSON"),
        (fake.hang, "sent nothing in time"),
    ],
)
def test_bad_servers_are_one_line(capsys: Captured, handler: fake.Handler, words: str) -> None:
    with FakeServer([handler]) as server:
        argv = ("ask", "x", "--base-url", server.url, "--timeout", "0.3", "--api-key", "k")
        assert words in fails(capsys, 1, *argv)


def test_a_stream_that_breaks_keeps_what_came(capsys: Captured) -> None:
    with FakeServer([fake.stream(*GOOD[:4], end="short")]) as server:
        assert run("ask", "x", "--base-url", server.url) == 1
    out, err = capsys.readouterr()
    assert out == "It is \\boxed{4}.\n" and err.count("\n") == 1
    assert "closed the connection in the middle of the reply" in err


@pytest.mark.parametrize("command", sorted(build_parser()._commands()))
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: extracot {command} ")
