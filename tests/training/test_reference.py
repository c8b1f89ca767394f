"""Stage ``reference``: figures by hand, resuming, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from extracot_training.config.reference import ReferenceConfig
from extracot_training.errors import ConfigError, StageError
from extracot_training.pipeline.records import read_rows
from extracot_training.pipeline.reference_rows import LevelAttempt, LevelAttempts, ReferenceRow
from extracot_training.pipeline.stage import Status
from extracot_training.stages.reference.report import figures_of
from extracot_training.stages.reference.stage import run
from tests.training.tiny_chrpo import COUNT, make_model, make_problems


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that counts as far as its level says and always answers 7."""
    folder = tmp_path_factory.mktemp("reference")
    make_problems(folder)
    make_model(folder)
    return folder


def config(root: Path, out: Path, **settings: Any) -> ReferenceConfig:
    known = {
        "input": root / "problems", "model": str(root / "sft"), "out": out, "k": 2, "threads": 1,
        "drawing": {"max_tokens": 60, "temperature": 0.7},
        "backend": {"kind": "generate", "batch": 12, "device": "cpu"},
    }  # fmt: skip
    return ReferenceConfig.model_validate(known | settings)


@pytest.fixture(scope="module")
def whole(root: Path) -> Path:
    return run(config(root, root / "whole")).folder


def rows_of(folder: Path) -> list[ReferenceRow]:
    return list(read_rows(folder, ReferenceRow))


def test_it_measures_what_the_model_does(whole: Path) -> None:
    rows = rows_of(whole)
    assert len(rows) == 2 * COUNT
    for row in rows:
        assert [one.level for one in row.levels] == [0.2, 0.4, 0.6, 0.8, 1.0]
        assert all(len(one.attempts) == 2 for one in row.levels)
    right = {
        name: [one.accuracy for row in rows if row.family == name for one in row.levels]
        for name in ("red", "blue")
    }
    assert sum(right["red"]) / len(right["red"]) > 0.9  # the answer is always 7
    assert sum(right["blue"]) == 0.0
    blue = [row for row in rows if row.family == "blue"]
    assert all(row.r_star == 1.0 and not row.unanimous for row in blue)
    figures = json.loads((whole / "report.json").read_text())
    realised = [of["realised"] for of in figures["all"]["levels"].values()]
    assert realised == sorted(realised) and realised[-1] == 1.0
    assert realised[0] == pytest.approx(0.2, abs=0.1)  # it counts to 2 instead of 10
    assert set(figures["by_family"]) == {"red", "blue"} and set(figures["by_steps"]) == {"1"}
    text = (whole / "report.md").read_text()
    assert "| r* | problems, estimated |" in text and "## By family" in text
    for row in rows:
        assert row.estimate is not None and row.estimate.level == 0.2, "no level does better"
        assert row.estimate.solved == (row.family == "red")
        assert sum(row.estimate.probabilities) == pytest.approx(1.0, abs=1e-3)
        assert row.answer_need is not None and row.answer_need > 0


def test_a_cut_run_ends_as_an_uncut_one(root: Path, whole: Path, tmp_path: Path) -> None:
    done = run(config(root, tmp_path / "cut"))
    expected = rows_of(whole)
    assert rows_of(done.folder) == expected, "the same seed, the same rows"
    manifest = json.loads((done.folder / "stage.json").read_text())
    (done.folder / "stage.json").write_text(json.dumps({**manifest, "finished": None}))
    lines = (done.folder / "rows.jsonl").read_text().splitlines(keepends=True)
    # Cut in the middle of the second chunk (six problems each), and of a line.
    (done.folder / "rows.jsonl").write_text("".join(lines[:8]) + lines[8][:40])
    again = run(config(root, tmp_path / "cut"))
    assert again.status is Status.DONE
    assert rows_of(again.folder) == expected
    assert (again.folder / "report.md").read_text() == (whole / "report.md").read_text()
    assert run(config(root, tmp_path / "cut")).status is Status.UP_TO_DATE


def test_another_seed_gives_other_replies(root: Path, tmp_path: Path) -> None:
    settings = {"limit": 3, "splits": ["train"], "drawing": {"max_tokens": 60, "temperature": 1.5}}
    one, other = (
        rows_of(run(config(root, tmp_path / str(seed), seed=seed, **settings)).folder)
        for seed in (1, 2)
    )
    assert len(one) == len(other) == 3 and one != other


def test_several_replies_without_chance_are_warned_of(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    greedy = {"max_tokens": 60, "temperature": 0.0}
    one = {"levels": [1.0], "limit": 1, "drawing": greedy}
    run(config(root, tmp_path / "two", **one))
    assert "warning: k is 2 at temperature 0: all 2 replies" in capsys.readouterr().err
    run(config(root, tmp_path / "one", k=1, **one))
    assert "warning" not in capsys.readouterr().err


def test_levels_can_be_fewer_but_not_without_the_whole(root: Path, tmp_path: Path) -> None:
    few = run(config(root, tmp_path / "few", levels=[1.0, 0.2], limit=2, splits=["dev"]))
    assert [one.level for one in rows_of(few.folder)[0].levels] == [0.2, 1.0]
    with pytest.raises(ConfigError, match=r"want level 1\.0"):
        run(config(root, tmp_path / "a", levels=[0.2]))
    with pytest.raises(ConfigError, match=r"level 0\.3: the model knows 0\.2, 0\.4"):
        run(config(root, tmp_path / "b", levels=[0.3, 1.0]))


def test_what_is_missing_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no problem of split 'test'"):
        run(config(root, tmp_path / "a", splits=["test"]))
    with pytest.raises(StageError, match="renderer"):
        run(config(root, tmp_path / "b", model=str(root / "base")))
    with pytest.raises(ValidationError):
        config(root, tmp_path / "c", backend={"kind": "nothing"})


def attempts(level: float, *made: tuple[bool, int], closed: bool = True) -> LevelAttempts:
    return LevelAttempts(
        level=level,
        attempts=[
            LevelAttempt(correct=right, closed=closed, boxed="4", tokens=n, total=n + 5)
            for right, n in made
        ],
    )


def row(number: int, levels: list[LevelAttempts], steps: int) -> ReferenceRow:
    return ReferenceRow.measured(
        levels, problem_id=f"p{number}", question="?", gold="4", split="train", steps=steps
    )


def test_figures_by_hand() -> None:
    rows = [
        row(0, [attempts(0.2, (True, 10), (False, 30)), attempts(1.0, (True, 100), (True, 60))], 2),
        row(1, [attempts(0.2, (True, 20), (True, 20)), attempts(1.0, (True, 40), (True, 0))], 2),
        row(2, [attempts(0.2, (False, 5), (False, 5)), attempts(1.0, (False, 9), (True, 9))], 3),
    ]
    assert [(one.r_star, one.unanimous, one.l_ref) for one in rows] == [
        (1.0, True, 80.0), (0.2, True, 20.0), (1.0, False, 9.0),
    ]  # fmt: skip
    figures = figures_of(rows, resamples=200, seed=1)
    small, large = figures["all"]["levels"]["0.2"], figures["all"]["levels"]["1"]
    assert small["accuracy"] == pytest.approx(3 / 6) and large["accuracy"] == pytest.approx(5 / 6)
    assert small["tokens"] == pytest.approx(90 / 6) and large["tokens"] == pytest.approx(218 / 6)
    assert small["realised"] == pytest.approx(90 / 218)  # of sums, not the mean of ratios
    low, high = small["realised_interval"]
    assert low <= 90 / 218 <= high
    assert figures["all"]["r_star"] == {"0.2": 1, "1": 2} and figures["all"]["unsolved"] == 1
    assert figures["by_steps"]["3"]["levels"]["1"]["accuracy"] == 0.5
    assert figures["by_family"] == figures["by_asked"] == {}
    asked = [one.model_copy(update={"asked": 1 + (place > 0)}) for place, one in enumerate(rows)]
    of = figures_of(asked, resamples=200, seed=1)["by_asked"]
    assert [of["1"]["problems"], of["2"]["problems"]] == [1, 2]
    assert of["1"]["r_star_mean"] == 1.0 and of["2"]["r_star_mean"] == 0.6


def test_levels_of_a_row_ascend() -> None:
    one, other = attempts(0.2, (True, 1)), attempts(1.0, (True, 1))
    with pytest.raises(ValidationError, match="want them increasing"):
        row(0, [other, one], 1)
