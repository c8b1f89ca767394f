"""Stage evaluate against the real app on the scripted engine, over HTTP, in token mode."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from extracot.card import BudgetCard
from extracot_server.engine.scripted.engine import ScriptedBehaviour
from extracot_training.errors import StageError
from extracot_training.evaluation.card import CardFigures
from extracot_training.evaluation.rows import REPLIES_FILENAME, EvalRow, Reply
from extracot_training.pipeline.records import read_rows
from extracot_training.stages.evaluate.stage import run
from tests.contract.scripted import config, problems, server

LEVELS = ("0.2", "0.4", "0.6", "0.8", "1.0")
REALISED = dict(zip(LEVELS, (0.22, 0.41, 0.60, 0.79, 1.0), strict=True))
# What a resumed run may differ in: when things happened, and how long they took.
TIMES = {"started", "seconds", "first_token_s", "first_answer_s", "attempts"}


def content(folder: Path) -> list[dict[str, Any]]:
    return [row.model_dump(exclude=TIMES) for row in read_rows(folder, EvalRow)]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 problems of the test split, 3 of them with a wrong gold, at every budget, twice."""
    folder = tmp_path_factory.mktemp("evaluate")
    with server(folder / "card") as live:
        outcome = run(config(problems(folder / "problems", 13), live.url))
    assert outcome.counts["rows"] == 12 * 8 * 2
    return outcome.folder


def test_every_budget_is_measured_as_the_engine_is(evaluated: Path) -> None:
    report = json.loads((evaluated / "report.json").read_text())
    assert report["server"]["mode"] == "token" and report["synthetic"] == 12
    for name in (*LEVELS, "auto", "native", "none"):
        found = report["budgets"][name]
        assert (found["n"], found["rows"]) == (12, 24)
        assert found["accuracy"]["mean"] == found["strict"]["mean"] == 0.75
        assert found["unclosed_rate"] == found["cap_hit_rate"] == 0
    for name in LEVELS[:-1]:
        pair = report["budgets"][name]["against"]["1.0"]
        assert pair["ratio_of_sums"]["mean"] == pytest.approx(REALISED[name], abs=0.01)
        assert pair["mean_of_ratios"] == pytest.approx(REALISED[name], abs=0.02)
        assert pair["accuracy"]["mean"] == 0 and pair["accuracy_non_inferior"]
    assert report["budgets"]["native"]["against"]["1.0"]["mean_of_ratios"] == pytest.approx(1, 0.05)
    assert report["budgets"]["none"]["tokens"]["reasoning"]["mean"] == 0


def test_rows_hold_what_the_server_reported(evaluated: Path) -> None:
    rows = list(read_rows(evaluated, EvalRow))
    assert [row.key for row in rows[:3]] == ["p1/0.2/0", "p1/0.2/1", "p1/0.4/0"]
    assert len({row.seed for row in rows}) == len(rows)
    for row in rows:
        assert 0 < (row.first_token_s or 0) <= (row.first_answer_s or 0) <= row.seconds
        if row.budget in LEVELS:
            assert row.level == float(row.budget) and row.chosen_probability is None
        if row.budget == "auto":
            assert row.level in map(float, LEVELS) and 0 < (row.chosen_probability or 0) <= 1
        if row.budget in ("native", "none"):
            assert row.level is None
    assert {row.level for row in rows if row.budget == "auto"} != {None, 1.0}


def test_the_report_is_whole(evaluated: Path) -> None:
    text = (evaluated / "report.md").read_text()
    for name in ("accuracy_tokens.png", "requested_realised.png", "level_difficulty.png"):
        assert f"({name})" in text
        assert (evaluated / name).read_bytes().startswith(b"\x89PNG")
    assert "4 requests at a time" in text and "avg@2" in text
    figures = CardFigures.load(evaluated)
    assert list(figures.levels) == list(LEVELS)
    assert figures.levels["1.0"].realised is not None and figures.policy is not None
    assert figures.baseline.native[0].n == figures.baseline.full[0].n == 24
    assert figures.tokenizer_hash == BudgetCard.load(evaluated.parent / "card").tokenizer_hash


def test_a_calibrated_level_is_asked_for_by_what_it_realises(tmp_path: Path) -> None:
    """On a full card 0.2 realises 0.22; the level is measured, whatever its number promises."""
    with server(tmp_path / "card", calibrated=True) as live:
        few = {"budgets": [0.2, 1.0], "samples": 1, "limit": 2}
        run(config(problems(tmp_path / "problems", 4), live.url, **few))
        sent = [reply.level for reply in read_rows(tmp_path / "evaluate", EvalRow)]
        assert sent == [0.2, 1.0, 0.2, 1.0]
        with pytest.raises(
            StageError, match=r"budget 0\.3: no level of this model, which has 0\.2"
        ):
            run(config(tmp_path / "problems", live.url, budgets=[0.3], out=tmp_path / "b"))
        free = {"budgets": [0.3], "samples": 1, "limit": 1, "asking": "ratios"}
        run(config(tmp_path / "problems", live.url, **free, out=tmp_path / "c"))
        assert not CardFigures.load(tmp_path / "c").levels


def test_wrong_servers_are_one_line_and_no_row(tmp_path: Path) -> None:
    source = problems(tmp_path / "problems", 3)

    def refused(url: str, **changes: Any) -> str:
        with pytest.raises(StageError) as error:
            run(config(source, url, **changes), force=True)
        replies = tmp_path / "evaluate" / REPLIES_FILENAME
        assert not replies.exists() or not replies.read_text()
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "no server answers there" in refused("http://127.0.0.1:1")
    with server(tmp_path / "card") as live:
        told = refused(live.url, model="scriptd")
        assert "no model 'scriptd', only: scripted" in told
        assert "usually ends in /v1" in refused(f"{live.url}/nowhere")
    with server(tmp_path / "card", settings={"api_key": "secret"}) as live:
        assert "HTTP 401" in refused(live.url)
        assert "(key: none is sent: set api_key_env)" in refused(live.url)
    with server(tmp_path / "card", settings={"budget_floor": 0.5}) as live:
        assert "asked for 0.2, but the server applied 0.6" in refused(live.url)
    with server(tmp_path / "card", settings={"holdout_fraction": 0.1}) as live:
        assert "holdout_fraction 0" in refused(live.url)


def test_a_server_that_dies_leaves_a_run_that_goes_on(tmp_path: Path) -> None:
    """The engine dies in the middle; what was answered stays, the rest is asked of the next one."""
    source = problems(tmp_path / "problems", 17)
    both = {"budgets": [0.2, "native"], "samples": 1}
    with server(tmp_path / "card") as live:
        whole = run(config(source, live.url, **both, out=tmp_path / "whole"))
    # Native replies reach 60 tokens, those of 0.2 do not.
    dying = ScriptedBehaviour(die_after_tokens=60)
    with (
        server(tmp_path / "card", dying) as live,
        pytest.raises(StageError, match=r"8 requests in a row failed, .*503.*; the same command"),
    ):
        run(config(source, live.url, **both))
    kept = {row.key for row in read_rows(tmp_path / "evaluate" / REPLIES_FILENAME, Reply)}
    assert kept >= {f"p{number}/0.2/0" for number in range(1, 17)} and len(kept) < 32
    with pytest.raises(StageError, match="no server answers there"):
        run(config(source, "http://127.0.0.1:1", **both))
    with server(tmp_path / "card") as live:
        outcome = run(config(source, live.url, **both))
        assert len(live.engine.requests) == 32 - len(kept)
    assert content(outcome.folder) == content(whole.folder)


def test_kill_9_loses_and_doubles_no_row(tmp_path: Path) -> None:
    source = problems(tmp_path / "problems", 9)
    slow = ScriptedBehaviour(token_interval_seconds=0.001)
    with server(tmp_path / "card", slow) as live:
        settings = config(source, live.url, budgets=[0.4, "auto"])
        replies = settings.out / REPLIES_FILENAME
        path = tmp_path / "config.json"
        path.write_text(settings.model_dump_json())
        code = (
            "import sys; from extracot_training.config.evaluate import EvaluateConfig;"
            "from extracot_training.stages.evaluate.stage import run;"
            "run(EvaluateConfig.model_validate_json(open(sys.argv[1]).read()))"
        )
        process = subprocess.Popen([sys.executable, "-c", code, str(path)])
        live.wait_for(lambda: replies.exists() and replies.read_bytes().count(b"\n") >= 5, 120)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with replies.open("ab") as stream:
            stream.write(b'{"problem_id": "p1", "bud')  # the line it was writing
        before = replies.read_bytes().count(b"\n")
        outcome = run(settings)
        assert outcome.counts["rows"] == 8 * 2 * 2
        kept = replies.read_bytes().splitlines()[:before]
        assert len(replies.read_bytes().splitlines()) == 8 * 2 * 2 and before >= 5
        whole = run(config(source, live.url, budgets=[0.4, "auto"], out=tmp_path / "whole"))
    assert content(outcome.folder) == content(whole.folder)
    assert all(json.loads(line)["problem_id"] for line in kept)


def test_refused_requests_are_counted_and_left_out(tmp_path: Path) -> None:
    """Two questions are longer than the context; they are refused at every budget, for good."""
    source = problems(tmp_path / "problems", 5)
    lines = (source / "rows.jsonl").read_text().splitlines()
    for number in (1, 3):
        row = json.loads(lines[number])
        lines[number] = json.dumps(row | {"question": row["question"] + " So?" * 4000})
    (source / "rows.jsonl").write_text("\n".join(lines) + "\n")
    with server(tmp_path / "card") as live:
        outcome = run(config(source, live.url, budgets=[0.2, "native"], samples=1))
        asked = len(live.engine.requests)
        assert outcome.counts["refused"] == 4
        report = json.loads((outcome.folder / "report.json").read_text())
        assert report["refused"] == {"0.2": 2, "native": 2}
        assert report["budgets"]["0.2"]["n"] == 2
        assert report["budgets"]["0.2"]["incomplete_problems"] == 2
        rows = {row.key: row for row in read_rows(outcome.folder, EvalRow)}
        assert "context" in (rows["p1/0.2/0"].refused or "") and not rows["p1/0.2/0"].correct
        # Other figures from the same replies: nothing is asked again.
        again = run(config(source, live.url, budgets=[0.2, "native"], samples=1, margin=0.5))
        assert again.status == "done" and len(live.engine.requests) == asked
        assert json.loads((outcome.folder / "report.json").read_text())["margin"] == 0.5
        # Another card is another checkpoint: its replies do not go into the same folder.
    with server(tmp_path / "other", calibrated=True) as live:
        replies = outcome.folder / REPLIES_FILENAME
        replies.write_text(replies.read_text().splitlines()[0] + "\n")
        changed = config(source, live.url, budgets=[0.2, "native"], samples=1, margin=0.4)
        with pytest.raises(StageError, match="a server with other levels"):
            run(changed)
