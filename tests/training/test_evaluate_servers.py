"""Stage evaluate on plain OpenAI servers and their faults, and evaluations compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from extracot_training.config.compare import CompareConfig
from extracot_training.config.evaluate import EvaluateConfig
from extracot_training.errors import StageError
from extracot_training.evaluation.rows import EvalRow
from extracot_training.math_text.verify import grader
from extracot_training.pipeline.records import read_rows, write_rows
from extracot_training.pipeline.stage import Status
from extracot_training.stages.compare.stage import run as compare
from extracot_training.stages.evaluate.stage import run
from tests.training.evaluations import config, problem
from tests.training.openai_server import serve
from tests.training.sse_server import Chunks, delta, end, serve_streams
from tests.training.tiny import word_tokenizer

TEXT = "<think>one two three</think>\n\nSo \\boxed{3}."


# ------------------------------------------------------------------------------ plain servers


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    write_rows(tmp_path / "problems" / "rows.jsonl", [problem(n) for n in range(4)])
    return tmp_path / "problems"


def plain(problems: Path, url: str, **changes: Any) -> EvaluateConfig:
    base = {"input": problems, "out": problems.parent / "plain", "base_url": url}
    return config(**{**base, "budgets": ["native"], **changes})


def in_fields(body: dict[str, Any]) -> Chunks:
    return [
        delta(reasoning="one two"),
        delta(reasoning=" three, 1 + 1 = 3"),
        delta(content="So 2 + 1 = 3 "),
        delta(content="\\boxed{3}."),
        *end(8, 20, 12),
    ]


def in_text(body: dict[str, Any]) -> Chunks:
    return [*(delta(content=TEXT[at : at + 7]) for at in range(0, len(TEXT), 7)), *end(8, 20)]


def test_a_plain_server_is_measured_by_its_usage(problems: Path) -> None:
    with serve_streams(in_fields) as server:
        outcome = run(plain(problems, server.url, budgets=["native", "none"], system_prompt="S"))
        bodies = server.bodies
    asked = bodies[0]["messages"]
    assert asked[0] == {"role": "system", "content": "S"}
    assert "\\boxed{}" in asked[1]["content"].split("\n")[0]
    assert all("budget" not in body for body in bodies)
    assert "chat_template_kwargs" not in bodies[0]
    assert bodies[-1]["chat_template_kwargs"] == {"enable_thinking": False}
    assert bodies[0]["max_tokens"] == 4096 and len({body["seed"] for body in bodies}) == 8
    found = next(iter(read_rows(outcome.folder, EvalRow)))
    assert (found.reasoning_tokens, found.answer_tokens, found.completion_tokens) == (12, 8, 20)
    answer = "So 2 + 1 = 3 \\boxed{3}."
    assert (found.closed_by, found.unclosed, found.answer) == ("model", False, answer)
    assert (found.calculations, found.miscalculated) == (2, 1)
    report = json.loads((outcome.folder / "report.json").read_text())
    assert report["server"]["kind"] == "plain"
    assert report["budgets"]["native"]["accuracy"]["mean"] == 0.25
    assert (
        report["card"]["levels"] == {}
        and "plain OpenAI server" in (outcome.folder / "report.md").read_text()
    )


def test_brevity_can_be_asked_for_in_words(problems: Path) -> None:
    with serve_streams(in_fields) as server:
        run(plain(problems, server.url, suffix="Use few words."))
        asked = [body["messages"][-1]["content"] for body in server.bodies]
    assert len(asked) == 4 and all(text.endswith(" Use few words.") for text in asked)


def test_tags_in_the_text_are_split_and_counted_by_a_tokenizer(problems: Path) -> None:
    with serve_streams(in_text) as server:
        with pytest.raises(StageError, match=r"does not count reasoning tokens.*set tokenizer"):
            run(plain(problems, server.url))
        word_tokenizer().save_pretrained(problems.parent / "tokenizer")
        counted = plain(problems, server.url, tokenizer=str(problems.parent / "tokenizer"))
        found = list(read_rows(run(counted).folder, EvalRow))
    assert [r.reasoning_tokens for r in found] == [4] * 4  # one two thr ee
    assert all(r.answer == "So \\boxed{3}." and r.closed_by == "model" for r in found)
    assert all((r.first_token_s or 0) < (r.first_answer_s or 0) for r in found)


@pytest.mark.parametrize("template_opens_think", [False, True])
def test_reasoning_that_never_closed_counts_in_full(
    problems: Path, template_opens_think: bool
) -> None:
    opening = "" if template_opens_think else "<think>"

    def endless(body: dict[str, Any]) -> Chunks:
        return [delta(content=f"{opening}on and \\boxed{{3}} on"), *end(8, 30, finish="length")]

    with serve_streams(endless) as server:
        settings = plain(problems, server.url, template_opens_think=template_opens_think)
        found = list(read_rows(run(settings).folder, EvalRow))
    assert all(r.unclosed and r.reasoning_tokens == 30 and not r.correct for r in found)
    assert all(r.first_answer_s is None and r.answer == "" for r in found)


def test_a_plain_server_has_no_budgets(problems: Path) -> None:
    with serve_streams(in_fields) as server:
        with pytest.raises(StageError, match=r"budget 0\.4: .* is a plain OpenAI server"):
            run(plain(problems, server.url, budgets=["native", 0.4]))
        assert not server.bodies
    # Nothing was asked, so other settings may use the folder.
    with (
        serve_streams(in_fields, models=()) as server,
        pytest.raises(StageError, match="there is no model 'm', only: none"),
    ):
        run(plain(problems, server.url))
    # This one answers no GET at all.
    with serve(lambda body: (200, {}, {})) as nothing, pytest.raises(StageError, match="HTTP 501"):
        run(plain(problems, nothing.url))


@pytest.mark.parametrize(
    "fault",
    [503, 429, [delta(content="cut")], [{"error": {"message": "engine failed"}}]],
    ids=["overload", "limit", "cut stream", "error in the stream"],
)
def test_what_may_pass_is_tried_again(problems: Path, fault: Any) -> None:
    seen: list[int] = []

    def flaky(body: dict[str, Any]) -> Any:
        seen.append(body["seed"])
        return fault if seen.count(body["seed"]) == 1 else in_fields(body)

    with serve_streams(flaky) as server:
        rows = list(read_rows(run(plain(problems, server.url)).folder, EvalRow))
    assert [r.attempts for r in rows] == [2] * 4


def test_what_is_nobodys_but_the_requests_fault_is_a_refused_row(problems: Path) -> None:
    def picky(body: dict[str, Any]) -> Any:
        return 400 if "What is 2" in body["messages"][-1]["content"] else in_fields(body)

    with serve_streams(picky) as server:
        outcome = run(plain(problems, server.url))
        assert len(server.bodies) == 4  # a refused request is not tried again
    rows = {r.key: r for r in read_rows(outcome.folder, EvalRow)}
    assert rows["p2/native/0"].refused == "HTTP 400: said 400"
    assert outcome.counts["refused"] == 1
    with (
        serve_streams(lambda body: 400) as server,
        pytest.raises(StageError, match="every request was refused, such as: HTTP 400"),
    ):
        run(plain(problems, server.url, out=problems.parent / "all"))
    with (
        serve_streams(lambda body: 401) as server,
        pytest.raises(StageError, match="HTTP 401: said 401"),
    ):
        run(plain(problems, server.url, out=problems.parent / "key"))


def test_a_report_anew_is_of_the_replies_that_are_there(problems: Path) -> None:
    with serve_streams(lambda body: [delta(content="\\boxed{3}"), *end(8, 20, 0)]) as server:
        first = run(plain(problems, server.url))
        before = (first.folder / "stage.json").read_bytes()
        other = plain(problems, server.url, margin=0.2, seed=7)
        with pytest.raises(StageError, match="made with other settings: seed"):
            run(other)
        assert (first.folder / "stage.json").read_bytes() == before
        asked = len(server.bodies)
        anew = run(plain(problems, server.url, margin=0.2))
        assert anew.status is Status.DONE and len(server.bodies) == asked
        run(other, force=True)
        assert len(server.bodies) == 2 * asked


# ---------------------------------------------------------------------------------- compare


def answering(value: int, thought: int = 5) -> Callable[[dict[str, Any]], Chunks]:
    text = f"\\boxed{{{value}}}"
    return lambda body: [delta(reasoning="hm"), delta(content=text), *end(8, 20, thought)]


def test_runs_are_compared_on_the_problems_they_share(problems: Path, tmp_path: Path) -> None:
    folders = {}
    for name, value, thought in (("weak", 99, 10), ("strong", 3, 5), ("a|b", 3, 5)):
        with serve_streams(answering(value, thought)) as server:
            folders[name] = run(plain(problems, server.url, out=tmp_path / name)).folder
    settings = CompareConfig(runs=folders, out=tmp_path / "compare", resamples=200)
    outcome = compare(settings)
    report = json.loads((outcome.folder / "report.json").read_text())
    found = report["differences"]["strong"]["native"]
    assert found["accuracy"]["mean"] == 0.25 and found["accuracy"]["n"] == 4
    assert found["tokens_ratio"] == 0.5
    text = (outcome.folder / "report.md").read_text()
    assert "| a\\|b | native | 4 | +0.250 [" in text
    assert "## Against weak" in text and "| strong | native | 4 | +0.250 [" in text
    assert (outcome.folder / "accuracy_tokens.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(StageError, match="base 'x': no run of that name; there are weak"):
        compare(settings.model_copy(update={"base": "x"}))
    with pytest.raises(StageError, match=r"does not exist|no such file"):
        compare(CompareConfig(runs={"a": tmp_path / "nowhere"}, out=tmp_path / "c"))


def test_runs_of_other_numbers_of_samples_are_compared_per_reply(
    problems: Path, tmp_path: Path
) -> None:
    folders = {}
    for name, samples in (("once", 1), ("four times", 4)):
        with serve_streams(answering(3, 10)) as server:
            made = plain(problems, server.url, out=tmp_path / name, samples=samples)
            folders[name] = run(made).folder
    outcome = compare(CompareConfig(runs=folders, out=tmp_path / "compare", resamples=200))
    report = json.loads((outcome.folder / "report.json").read_text())
    found = report["differences"]["four times"]["native"]
    assert found["tokens_ratio"] == 1.0 and found["accuracy"]["mean"] == 0.0


def two_runs(problems: Path, tmp_path: Path) -> dict[str, Path]:
    with serve_streams(answering(3)) as server:
        return {
            name: run(plain(problems, server.url, out=tmp_path / name)).folder
            for name in ("old", "new")
        }


def test_runs_of_different_graders_are_told_and_judged_anew_without_a_server(
    problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = two_runs(problems, tmp_path)
    capsys.readouterr()
    outcome = compare(CompareConfig(runs=folders, out=tmp_path / "same", resamples=200))
    text = (outcome.folder / "report.md").read_text()
    assert text.count(f"graded by: {grader()}") == 2 and "Mind the graders" not in text
    assert "warning" not in capsys.readouterr().err and outcome.counts == {"runs": 2}

    path = folders["old"] / "report.json"
    told = json.loads(path.read_text())
    for named, shown in (("extracot.answers 1", "extracot.answers 1"), (None, "not stated")):
        path.write_text(json.dumps(told | {"grader": named} if named else without_grader(told)))
        outcome = compare(CompareConfig(runs=folders, out=tmp_path / f"by {shown}", resamples=200))
        text = (outcome.folder / "report.md").read_text()
        warned = f"(old: {shown}; new: {grader()})"
        assert f"graded by: {shown}\n" in text and outcome.counts == {"runs": 2, "graders": 2}
        assert "**Mind the graders**" in text and warned in text
        assert f"judged by different graders {warned}" in capsys.readouterr().err
        figures = json.loads((outcome.folder / "report.json").read_text())
        assert figures["graders"] == {"old": shown, "new": grader()}
    # What the warning says to do: the server is gone, and the replies are judged again.
    (folders["old"] / "rows.jsonl").unlink()
    url = json.loads((folders["old"] / "stage.json").read_text())["config"]["base_url"]
    assert run(plain(problems, url, out=folders["old"])).status is Status.DONE
    outcome = compare(CompareConfig(runs=folders, out=tmp_path / "anew", resamples=200))
    assert "Mind the graders" not in (outcome.folder / "report.md").read_text()


def without_grader(report: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in report.items() if key != "grader"}


def test_runs_judged_by_other_golds_are_not_subtracted(problems: Path, tmp_path: Path) -> None:
    folders = two_runs(problems, tmp_path)
    rows = list(read_rows(folders["new"], EvalRow))

    def judged_by(*golds: str) -> CompareConfig:
        changed = [
            row.model_copy(update={"gold": gold}) for row, gold in zip(rows, golds, strict=True)
        ]
        write_rows(folders["new"] / "rows.jsonl", changed)
        return CompareConfig(runs=folders, out=tmp_path / "golds", resamples=200)

    said = r"^old and new .* golds .*: p1 \('2', in new '7'\); evaluate both on one file"
    with pytest.raises(StageError, match=said):
        compare(judged_by("1", "7", "3", "4"))
    with pytest.raises(StageError, match=r"p0 \(.*, p1 \(.*, p2 \([^p]*\) and 1 more; "):
        compare(judged_by("9", "9", "9", "9"))
    # The same number in another spelling is the same gold.
    assert compare(judged_by("1.0", "2", "3 apples", "$4$")).status is Status.DONE
