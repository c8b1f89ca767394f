"""What stages leave out, repeat or only take for something else is an error or is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from extracot_training.cli import main
from extracot_training.config.compress import CompressConfig
from extracot_training.config.problems import ProblemsConfig
from extracot_training.config.teach import TeachConfig
from extracot_training.errors import StageError
from extracot_training.pipeline.records import (
    CompressedTrace,
    Problem,
    Trace,
    read_rows,
    write_rows,
)
from extracot_training.pipeline.stage import LOST, StageResult
from extracot_training.stages.compress.stage import run as compress
from extracot_training.stages.mix.stage import run as mix
from extracot_training.stages.problems.stage import run as problems
from extracot_training.stages.teach.stage import run as teach
from tests.training.tiny_policy import make_base, mix_config, write_traces


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("counted")
    write_traces(root, 12)
    make_base(root)
    return root


def test_traces_that_a_folder_lacks_are_named(root: Path, tmp_path: Path) -> None:
    some = [row for row in read_rows(root / "teach", Trace) if row.problem_id in ("p1", "p2")]
    write_rows(tmp_path / "few.jsonl", some)
    message = r"lacks 10 of the 12 traces .*\(p0/0, p10/0, p11/0, …\); set traces to that folder"
    with pytest.raises(StageError, match=message):
        mix(mix_config(root, out=tmp_path / "mix", traces=tmp_path / "few.jsonl"))


def test_traces_without_a_row_at_one_are_counted(root: Path, tmp_path: Path) -> None:
    every = list(read_rows(root / "compress", CompressedTrace))
    less = [row for row in every if row.target < 1 or row.problem_id not in ("p0", "p3")]
    write_rows(tmp_path / "less.jsonl", less)
    outcome = mix(mix_config(root, out=tmp_path / "mix", compressed=tmp_path / "less.jsonl"))
    assert outcome.counts[LOST] == {"no row at 1.0": 2}
    assert "Traces left out: no row at 1.0 2." in (outcome.folder / "report.md").read_text()
    write_rows(tmp_path / "none.jsonl", [row for row in every if row.target < 1])
    with pytest.raises(StageError, match=r"no row at 1.0 of 12 of 12 traces .*set traces to"):
        mix(mix_config(root, out=tmp_path / "x", compressed=tmp_path / "none.jsonl"))


def test_copies_of_policy_rows_are_told(root: Path, tmp_path: Path) -> None:
    measured = [{"problem_id": f"p{n}", "r_star": 0.2, "unanimous": True, "question": "q",
                 "l_ref": 9} for n in range(3)]  # fmt: skip
    lines = "".join(f"{json.dumps(row)}\n" for row in measured)
    (tmp_path / "reference.jsonl").write_text(lines)
    settings: dict[str, Any] = {"reference": tmp_path / "reference.jsonl"}
    outcome = mix(mix_config(root, out=tmp_path / "mix", policy={"share": 0.2}, **settings))
    assert outcome.counts["policy"] == 12 and outcome.counts["policy_repeated"] == 9
    assert "9 of 12 policy rows are copies" in (outcome.folder / "report.md").read_text()
    few = mix(mix_config(root, out=tmp_path / "few", policy={"share": 0.05}, **settings))
    assert few.counts["policy"] == 3 and "policy_repeated" not in few.counts


def test_traces_that_are_not_shortened_are_counted(root: Path, tmp_path: Path) -> None:
    traces = list(read_rows(root / "teach", Trace))
    traces[0] = traces[0].model_copy(update={"reasoning": " "})
    traces[1] = traces[1].model_copy(update={"correct": False})
    write_rows(tmp_path / "teach.jsonl", traces)
    outcome = compress(
        CompressConfig(
            input=tmp_path / "teach.jsonl", out=tmp_path / "c", scores="random", ratios=(0.5, 1.0),
            tokenizer="bundled:minilm", bucket=1.0,
        )
    )  # fmt: skip
    lost = outcome.counts[LOST]
    assert (lost["traces without reasoning"], lost["wrong traces"]) == (1, 1)
    page = (outcome.folder / "report.md").read_text()
    assert "traces without reasoning 1" in page and "wrong traces 1" in page


def test_own_traces_that_are_wrong_are_kept_where_all_are(tmp_path: Path) -> None:
    shared: dict[str, Any] = {"source": "own", "license": "MIT", "split": "train"}
    write_rows(
        tmp_path / "problems" / "rows.jsonl",
        [
            Problem(id="a", question="1 + 1?", answer="2", solution="1 + 1 = 2", **shared),
            Problem(id="b", question="1 + 2?", answer="3", solution="It is 4.\n#### 4", **shared),
        ],
    )
    for keep, kept in (("correct", [True]), ("all", [True, False])):
        config = TeachConfig.model_validate(
            {"input": tmp_path / "problems", "out": tmp_path / keep, "source": "own", "keep": keep}
        )
        assert [row.correct for row in read_rows(teach(config).folder, Trace)] == kept


def drilled(tmp_path: Path, out: str, **contamination: Any) -> StageResult:
    """Forty equations of one form with other words around ten more, against one of the form."""
    rows = [{"question": f"Solve for x: {n}x + 5 = {3 * n + 5}", "answer": "3"} for n in range(40)]
    rows += [{"question": f"Why is {word} here?", "answer": "1"} for word in "abcdefghij"]
    (tmp_path / "mine.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    test = tmp_path / "test.jsonl"
    test.write_text(json.dumps({"question": "Solve for x: 7x - 2 = 12"}) + "\n")
    source = {"kind": "jsonl", "path": tmp_path / "mine.jsonl", "name": "mine", "license": "MIT"}
    against = {"against": [{"name": "t", "path": test}], **contamination}
    settings = {"sources": [source], "out": tmp_path / out, "contamination": against}
    return problems(ProblemsConfig.model_validate(settings))


def test_a_family_that_is_dropped_by_likeness_is_told(tmp_path: Path) -> None:
    told = "80% of mine count as test questions by likeness alone"
    found = drilled(tmp_path, "out")
    assert found.counts["contaminated"] == 40 and told in found.counts["look at"]
    assert "set contamination.mask_numbers to false" in found.counts["look at"]
    assert told in (found.folder / "report.md").read_text()
    plain = drilled(tmp_path, "plain", mask_numbers=False)
    assert plain.counts["contaminated"] == 0 and "look at" not in plain.counts


def test_likeness_is_told_in_the_last_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drilled(tmp_path, "out")
    config = json.loads((tmp_path / "out" / "stage.json").read_text())["config"]
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    assert main(["problems", "--config", str(tmp_path / "c.yaml")]) == 0
    assert "80% of mine count as test questions" in capsys.readouterr().out


def test_the_first_problems_of_a_shuffled_set_are_any(tmp_path: Path) -> None:
    sources = [{"kind": kind, "size": 40} for kind in ("everyday", "arithmetic")]
    found = {}
    for shuffled in (False, True):
        settings = {"sources": sources, "out": tmp_path / f"{shuffled}", "shuffled": shuffled}
        folder = problems(ProblemsConfig.model_validate(settings)).folder
        found[shuffled] = list(read_rows(folder, Problem))
    first = {shuffled: {row.source for row in rows[:20]} for shuffled, rows in found.items()}
    assert len(first[False]) == 1 and len(first[True]) == 2
    assert {row.id: row for row in found[True]} == {row.id: row for row in found[False]}
