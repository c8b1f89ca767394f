"""Rows that do not fit their level: too long or short for it, or without an equation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from extracot_training.config.mix import FitSettings
from extracot_training.errors import StageError
from extracot_training.pipeline.records import read_rows
from extracot_training.policy.mixed_rows import MixedRow
from extracot_training.stages.mix.fit import EQUATIONS, LENGTH, misfit, needed_results
from extracot_training.stages.mix.stage import run
from tests.training.tiny_policy import make_base, mix_config, write_traces

FULL = "First 3 * 4 = 12. By the way 5 + 5 = 10, which is no use. Then 12 + 2 = 14 is left."


def row(level: float | None, tokens: int) -> MixedRow:
    kind = "native" if level is None else "level"
    return MixedRow(
        problem_id="p", sample=0, kind=kind, level=level, prompt_ids=[1], reply_ids=[2],
        reasoning_tokens=tokens, full_tokens=100,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("full", "answer", "results"),
    [
        (FULL, r"\boxed{14}", {"12", "14"}),
        ("3 * 4 = 12, 12 - 2 = 10. Wait: 12 + 2 = 14.", "14 pens", {"12", "14"}),
        ("1,200 * 2 = $2,400. 2400 / 4 = 600.00", "600", {"2400", "600"}),
        ("0.5 * 3 = 1.50", "1.5", {"1.5"}),
        ("2 - 5 = -3", r"$-3$", {"3"}),
        ("x = 7, so 7 it is", "7", {"7"}),
        ("No sum is here.", "7", set()),
        ("", "", set()),
    ],
)
def test_the_answer_takes_these_equations(full: str, answer: str, results: set[str]) -> None:
    assert needed_results(full, answer) == results


@pytest.mark.parametrize(
    ("level", "tokens", "text", "reason"),
    [
        (0.2, 25, "3 * 4 = 12. 12 + 2 = 14.", None),
        (0.2, 31, "3 * 4 = 12. 12 + 2 = 14.", LENGTH),
        (0.4, 29, "3 * 4 = 12. 12 + 2 = 14.", LENGTH),
        (0.2, 20, "12 + 2 = 14.", None),  # what it goes on from is there
        (0.2, 20, "3 * 4 = 12.", EQUATIONS),
        (0.2, 20, "112 and 1.4", EQUATIONS),
        (0.2, 20, "It was 12. So 14 are left then.", EQUATIONS),
        (1.0, 20, "", None),
        (None, 20, "", None),
    ],
)
def test_a_row_fits_or_says_why_not(
    level: float | None, tokens: int, text: str, reason: str | None
) -> None:
    assert misfit(row(level, tokens), text, FULL, "14", FitSettings()) == reason


def test_each_half_can_be_switched_off() -> None:
    long, bare = row(0.2, 90), "nothing"
    assert misfit(long, bare, FULL, "14", FitSettings(within=None)) == EQUATIONS
    assert misfit(long, bare, FULL, "14", FitSettings(within=None, equations=False)) is None
    assert misfit(long, bare, FULL, "14", FitSettings(equations=False)) == LENGTH


def test_a_mixture_leaves_them_out_and_says_so(tmp_path: Path) -> None:
    write_traces(tmp_path)
    make_base(tmp_path)
    lines = [
        json.loads(line) for line in (tmp_path / "compress" / "rows.jsonl").read_text().splitlines()
    ]
    for line in lines:  # the last four traces are no shorter at 0.4 than at 0.8
        if line["target"] == 0.4 and int(line["problem_id"][1:]) >= 8:
            line["text"] += " and some more words that make it long by far for this level of it"
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    fit = {"within": 0.15, "equations": False}
    config = mix_config(
        tmp_path, compressed=tmp_path / "rows.jsonl", fit=fit, policy={"share": 0.3}
    )
    rows = list(read_rows(run(config).folder, MixedRow))
    own = {int(one.problem_id[1:]) for one in rows if one.level == 0.4}
    assert own == set(range(8)) and len([one for one in rows if one.level == 0.8]) >= 12
    figures = json.loads((config.out / "report.json").read_text())
    assert figures["unfit"]["level 0.4: another length"] == 4
    assert "they do not fit their level: level 0.4" in (config.out / "report.md").read_text()


def test_a_level_of_which_nothing_fits_is_refused(tmp_path: Path) -> None:
    write_traces(tmp_path)  # words from the beginning: only whole ones have the result
    make_base(tmp_path)
    with pytest.raises(StageError, match=r"level 0\.2 \(12 of 12 rows do not fit it\).*set fit to"):
        run(mix_config(tmp_path, fit={}))
