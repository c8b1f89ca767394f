"""Stage teach: judged traces, an honest count, and a resume that equals an uninterrupted run."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from extracot_training.config.teach import TeachConfig
from extracot_training.errors import StageError
from extracot_training.pipeline.records import Problem, Trace, read_rows, write_rows
from extracot_training.pipeline.stage import Status
from extracot_training.stages.problems.stage import run as make_problems
from extracot_training.stages.teach.stage import ATTEMPTS_FILENAME, MOST_REFUSED, SampledTrace, run
from extracot_training.synthetic import Generator
from tests.training.openai_server import Reply, completion, failure, serve


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    """A folder of twelve sums, one of which is in the test split."""
    rows = [
        Problem(
            id=f"sum-{n}",
            question=f"What is {n} + 1?",
            answer=str(n + 1),
            solution=f"{n} + 1 = {n + 1}" if n else None,
            source="sums",
            license="MIT",
            split="test" if n == 11 else "train",
        )
        for n in range(12)
    ]
    write_rows(tmp_path / "problems" / "rows.jsonl", rows)
    return tmp_path / "problems"


def config(problems: Path, url: str, **changes: Any) -> TeachConfig:
    base = {
        "input": problems,
        "out": problems.parent / "traces",
        "samples": 2,
        "backend": {
            "base_url": url,
            "kind": "http",
            "model": "m",
            "backoff_s": 0.0,
            "retries": 1,
            "concurrency": 3,
        },
    }
    return TeachConfig.model_validate(base | changes)


def number_asked(body: dict[str, Any]) -> int:
    question: str = body["messages"][-1]["content"]
    return int(question.split()[2])


def think(body: dict[str, Any]) -> Reply:
    """Right, except: 3 is wrong, 4 has no box, 5 is cut off, 6 doesn't think, 7 is refused."""
    n = number_asked(body)
    said = f"Adding one to {n} by seed {body['seed']}."
    match n:
        case 3:
            return completion("\\boxed{99}", said)
        case 4:
            return completion("It is 5.", said)
        case 5:
            return completion("", said, finish="length")
        case 6:
            return completion("\\boxed{7}")
        case 7:
            return failure(400, "prompt too long")
    return completion(f"So \\boxed{{{n + 1}.0}}", said)


def test_traces_are_judged_and_counted(problems: Path) -> None:
    with serve(think) as server:
        outcome = run(config(problems, server.url))
        assert len(server.bodies) == 22
        instruction = server.bodies[0]["messages"][-1]["content"].split("\n")[1]
        assert "\\boxed{}" in instruction
        assert len({body["seed"] for body in server.bodies}) == 22
    left_out = outcome.counts["lost"]
    assert left_out["no_box"] == 2 and sum(left_out.values()) == 10
    assert outcome.counts == {"kept": 12, "rejected": 10, "problems": 11, "lost": left_out}
    rows = list(read_rows(outcome.folder, Trace))
    assert [row.key for row in rows[:4]] == ["sum-0/0", "sum-0/1", "sum-1/0", "sum-1/1"]
    assert all(row.correct and row.teacher == "m" and row.tokens == 9 for row in rows)
    assert rows[0].reasoning.startswith("Adding one to 0")
    assert not any(row.synthetic for row in rows)
    report = json.loads((outcome.folder / "report.json").read_text())
    assert report["rejected"] == {
        "wrong": 2,
        "no_box": 2,
        "truncated": 2,
        "no_reasoning": 2,
        "refused": 2,
    }
    attempts = {row.key: row for row in read_rows(outcome.folder / ATTEMPTS_FILENAME, SampledTrace)}
    assert attempts["sum-7/0"].finish_reason == "refused: HTTP 400: prompt too long"
    assert attempts["sum-6/0"].correct and attempts["sum-6/0"].reason == "no_reasoning"


def test_settings_choose_what_is_kept(problems: Path) -> None:
    with serve(think) as server:
        one = config(problems, server.url, keep_per_problem=1, splits=["train", "test"], limit=12)
        counts = run(one).counts
        assert (counts["kept"], counts["rejected"], counts["problems"]) == (7, 17, 12)
        assert sum(counts["lost"].values()) == 17
        everything = {"keep": "all", "require_reasoning": False, "limit": 4, "system_prompt": "S"}
        other = config(problems, server.url, **everything, out=problems.parent / "all")
        assert run(other).counts == {"kept": 8, "rejected": 0, "problems": 4}
        assert server.bodies[-1]["messages"][0] == {"role": "system", "content": "S"}
        rows = list(read_rows(problems.parent / "all", Trace))
        assert [row.correct for row in rows if row.problem_id == "sum-3"] == [False, False]


def test_failed_requests_are_asked_again_by_the_next_run(problems: Path) -> None:
    broken = {2, 8}

    def flaky(body: dict[str, Any]) -> Reply:
        return failure(500, "oops") if number_asked(body) in broken else think(body)

    with serve(flaky) as server:
        settings = config(problems, server.url)
        with pytest.raises(StageError, match=r"4 of 22 requests failed, .*HTTP 500: oops"):
            run(settings)
        asked = len(server.bodies)
        broken.clear()
        outcome = run(settings)
        assert len(server.bodies) - asked == 4
    assert outcome.counts["kept"] == 12
    whole = problems.parent / "whole"
    with serve(think) as server:
        run(config(problems, server.url, out=whole))
    first, second = (f / "rows.jsonl" for f in (outcome.folder, whole))
    assert first.read_bytes() == second.read_bytes()


def test_a_killed_run_goes_on_and_equals_an_uninterrupted_one(
    problems: Path, tmp_path: Path
) -> None:
    """kill -9 while requests are under way; then the same command again at the same server."""
    enough = threading.Event()
    answered = 0
    lock = threading.Lock()
    let_go = threading.Event()

    def stalling(body: dict[str, Any]) -> Reply:
        nonlocal answered
        with lock:
            answered += 1
            stall = answered > 9
        if stall and not let_go.is_set():
            enough.set()
            let_go.wait(60)
        return think(body)

    with serve(stalling) as server:
        settings = config(problems, server.url)
        path = tmp_path / "teach.yaml"
        path.write_text(settings.model_dump_json())
        command = [sys.executable, "-m", "extracot_training.cli", "teach", "--config", str(path)]
        environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
        victim = subprocess.Popen(command, env=environment)
        assert enough.wait(120)
        victim.send_signal(signal.SIGKILL)
        assert victim.wait(60) == -signal.SIGKILL
        attempts = settings.out / ATTEMPTS_FILENAME
        saved = [row.key for row in read_rows(attempts, SampledTrace)]
        assert 0 < len(saved) < 22
        with attempts.open("ab") as stream:
            stream.write(b'{"problem_id": "sum-9", "samp')  # and the last line was torn, too
        let_go.set()
        before = len(server.bodies)
        second = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert second.returncode == 0, second.stderr
        assert len(server.bodies) - before == 22 - len(saved)
    keys = [row.key for row in read_rows(attempts, SampledTrace)]
    assert len(keys) == len(set(keys)) == 22
    with serve(think) as server:
        whole = run(config(problems, server.url, out=tmp_path / "whole"))
    assert (settings.out / "rows.jsonl").read_bytes() == (whole.folder / "rows.jsonl").read_bytes()
    assert (settings.out / "report.md").read_text() == (whole.folder / "report.md").read_text()


def test_a_finished_run_asks_for_nothing(problems: Path) -> None:
    with serve(think) as server:
        run(config(problems, server.url))
        asked = len(server.bodies)
    # Another address and another number of requests at a time don't make it another result.
    moved = config(problems, "http://127.0.0.1:9/v1")
    assert run(moved).status is Status.UP_TO_DATE
    assert asked == 22
    with pytest.raises(StageError, match=r"settings: seed \(0, now 1\)"):
        run(config(problems, "http://127.0.0.1:9/v1", seed=1))


def test_the_data_s_own_solutions(problems: Path) -> None:
    settings = TeachConfig(input=problems, out=problems.parent / "own", source="own", samples=1)
    outcome = run(settings)
    assert outcome.counts == {
        "kept": 10, "rejected": 1, "problems": 11, "lost": {"no_solution": 1},
    }  # fmt: skip
    (first, *_) = read_rows(outcome.folder, Trace)
    assert (first.reasoning, first.answer) == ("1 + 1 = 2", "The answer is \\boxed{2}.")
    assert first.teacher == "own:sums"
    report = json.loads((outcome.folder / "report.json").read_text())
    assert report["rejected"] == {"no_solution": 1}


def test_generated_traces_stay_marked_synthetic(tmp_path: Path) -> None:
    from extracot_training.config.problems import ProblemsConfig

    sources = [{"kind": "generator", "size": 12, "seed": 4}]
    made = ProblemsConfig.model_validate({"out": tmp_path / "p", "sources": sources})
    make_problems(made)
    for kind in ("solution", "terse"):
        settings = TeachConfig.model_validate(
            {
                "input": tmp_path / "p",
                "out": tmp_path / kind,
                "source": "own",
                "samples": 1,
                "own_trace": kind,
            }
        )
        assert run(settings).counts == {"kept": 12, "rejected": 0, "problems": 12}
        rows = list(read_rows(tmp_path / kind, Trace))
        assert all(row.synthetic and row.correct for row in rows)
    longest = max(len(row.reasoning) for row in rows)
    assert longest < min(len(p.trace) for p in Generator(4).make(12))


def test_no_problem_and_no_trace_are_errors(problems: Path) -> None:
    with serve(lambda body: completion("no box", "r")) as server:
        with pytest.raises(StageError, match="no problem in the splits dev"):
            run(config(problems, server.url, splits=["dev"]))
        with pytest.raises(StageError) as caught:
            run(config(problems, server.url, out=problems.parent / "none"))
    told = str(caught.value)
    assert told.startswith("no trace was kept: no_box 22; the first of no_box is one of sums ('")
    assert told.endswith("'); ask in instruction for the answer in \\boxed{}")


def test_where_no_trace_of_ones_own_is_kept_its_row_and_what_to_do_are_told(
    tmp_path: Path,
) -> None:
    rows = [
        Problem(id=f"p{n}", question=f"What is {n} + 1?", answer=str(n + 1), source="own",
                license="none", split="train", meta={"row": n + 2}, solution=solution)
        for n, solution in enumerate((None, "So \\boxed{7}.", "So \\boxed{8}."))
    ]  # fmt: skip
    (tmp_path / "problems").mkdir()
    write_rows(tmp_path / "problems" / "rows.jsonl", rows)
    own = TeachConfig(input=tmp_path / "problems", out=tmp_path / "teach", source="own", samples=1)
    with pytest.raises(StageError) as caught:
        run(own)
    assert str(caught.value) == (
        "no trace was kept: solution_disagrees 2, no_solution 1; the first of solution_disagrees "
        "is row 3 of own ('What is 1 + 1?'); correct the gold or the solution, which "
        "ends in another answer"
    )


def test_a_server_that_refuses_everything_is_told_in_its_words(problems: Path) -> None:
    refusing = serve(lambda body: failure(400, "no such template"))
    with refusing as server, pytest.raises(StageError) as caught:
        run(config(problems, server.url))
    assert str(caught.value) == (
        "the server refused every request (22), the first so: HTTP 400: no such template; "
        "the same command asks again"
    )
    with serve(think) as server:
        assert run(config(problems, server.url)).counts["kept"] == 12


def test_a_server_that_refuses_everything_is_not_asked_for_ever(problems: Path) -> None:
    refusing = serve(lambda body: failure(400, "no"))
    with refusing as server, pytest.raises(StageError, match=rf"\({MOST_REFUSED}\)"):
        run(config(problems, server.url, samples=40))


def test_the_same_reply_several_times_is_warned_of(
    problems: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(think) as server:
        run(config(problems, server.url, sampling={"temperature": 0}))
        assert "warning: samples is 2 at temperature 0: all 2 replies" in capsys.readouterr().err
        run(config(problems, server.url, out=problems.parent / "warm"))
    assert "warning" not in capsys.readouterr().err


BOXED = "Add.\nSo \\boxed{7}."


@pytest.mark.parametrize(
    ("solution", "reasoning", "answer", "fault"),
    [
        ("<think>\n6 + 1\n</think>\n" + BOXED, "6 + 1", BOXED, None),
        ("6 + 1</think>7", "6 + 1", "The answer is \\boxed{7}.", None),
        ("<thinking>6 + 1</thinking><answer>7</answer>", "6 + 1", None, None),
        ("<|begin_of_thought|>6 + 1<|end_of_thought|>", "6 + 1", None, None),
        ("[THINK]6 + 1[/THINK]" + BOXED, "6 + 1", BOXED, None),
        ("6 + 1 < 9 and a <b>7</b>", "6 + 1 < 9 and a <b>7</b>", None, None),
        ("<think>6 + 1</think>\\boxed{8}", None, None, "solution_disagrees"),
        ("<think>6 + 1", None, None, "unclosed"),
        ("<think>6</think> + <think>1</think>", None, None, "think_tags"),
        ("Let me see. <think>6 + 1</think>", None, None, "think_tags"),
        ("<think></think>7", None, None, "no_solution"),
    ],
)
def test_ones_own_traces_are_not_wrapped_twice(
    tmp_path: Path, solution: str, reasoning: str | None, answer: str | None, fault: str | None
) -> None:
    row = {"id": "a", "question": "q?", "answer": "7", "source": "s", "license": "MIT"}
    rows = [row | {"solution": solution}, row | {"id": "b", "solution": "plain"}]
    write_rows(
        tmp_path / "p" / "rows.jsonl",
        [Problem.model_validate(one | {"split": "train"}) for one in rows],
    )
    run(TeachConfig(input=tmp_path / "p", out=tmp_path / "t", source="own", samples=1))
    attempts = list(read_rows(tmp_path / "t" / ATTEMPTS_FILENAME, SampledTrace))
    assert attempts[0].reason == fault
    kept = list(read_rows(tmp_path / "t", Trace))
    assert [trace.problem_id for trace in kept] == (["b"] if fault else ["a", "b"])
    if not fault:
        assert kept[0].reasoning == reasoning and "think" not in kept[0].answer.lower()
        assert answer is None or kept[0].answer == answer


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backend": None}, "needs a backend"),
        ({"source": "own"}, "set samples to 1"),
        ({"sampling": {"temperature": -1}}, "sampling.temperature"),
    ],
)
def test_settings_that_make_no_sense(problems: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(problems, "http://127.0.0.1:9/v1", **changes)


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(problems: Path, tmp_path: Path) -> None:
    """A limit on file size stands for the full disk: writes fail in the middle of a row."""
    command = [sys.executable, "-m", "extracot_training.cli", "teach", "--input", str(problems)]
    command += ["--set", "source=own", "--set", "samples=1", "--out", str(tmp_path / "own")]
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    first = subprocess.run(
        command, env=environment, capture_output=True, text=True, preexec_fn=limit
    )
    assert first.returncode == 1
    assert "could not write a row: File too large" in first.stderr
    assert first.stderr.count("\n") == 1
    assert 0 < len(list(read_rows(tmp_path / "own" / ATTEMPTS_FILENAME, SampledTrace))) < 11
    second = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    whole = run(TeachConfig(input=problems, out=tmp_path / "whole", source="own", samples=1))
    rows = (tmp_path / "own" / "rows.jsonl").read_bytes()
    assert rows == (whole.folder / "rows.jsonl").read_bytes()
