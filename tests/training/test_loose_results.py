"""Counting results whose calculation a shortened trace left out."""

from __future__ import annotations

import json
from pathlib import Path

from extracot_training.compression.loose_results import loose_results
from extracot_training.config.compress import CompressConfig
from extracot_training.pipeline.records import CompressedTrace, read_rows, write_rows
from extracot_training.stages.compress import stage
from extracot_training.stages.compress.stage import ALL_ROWS
from tests.training.tiny import trace, word_tokenizer

ASKED = "Ann has 3 bags of 4 pens and gives 5 away. Ben buys 2 packs of 7."
WORKED = "Ann, pens: 3 × 4 = 12. Ann, left: 12 - 5 = 7. Ben has 2 × 7 = 14. So 7 and 14, 21 in all."


def test_loose_results_are_those_of_calculations_that_were_left_out() -> None:
    assert loose_results(ASKED, WORKED, WORKED) == 0
    assert loose_results(ASKED, WORKED, "12 - 5 = 7. So 7 and 14, 21 in all.") == 2  # 12 and 14
    assert loose_results(ASKED, WORKED, "3 × 4 = 12. 12 - 5 = 7.") == 0
    assert loose_results(ASKED, WORKED, "") == 0


def test_the_stage_counts_them(tmp_path: Path) -> None:
    told = {"reasoning": WORKED, "answer": "\\boxed{21}", "gold": "21"}
    rows = [
        trace(number).model_copy(update={"question": f"{ASKED} Case {letter}.", **told})
        for number, letter in enumerate("abcdefgh")
    ]
    write_rows(tmp_path / "traces" / "rows.jsonl", rows)
    word_tokenizer().save_pretrained(tmp_path / "tokenizer")
    settings = {
        "input": tmp_path / "traces", "out": tmp_path / "out", "scores": "random", "bucket": 1,
        "tokenizer": str(tmp_path / "tokenizer"),
        "cleaning": {"min_tokens": 1, "max_bigram_repeats": 1, "max_trigram_repeats": 1},
    }  # fmt: skip
    outcome = stage.run(CompressConfig.model_validate(settings))
    levels = json.loads((outcome.folder / "report.json").read_text())["levels"]
    made = list(read_rows(outcome.folder / ALL_ROWS, CompressedTrace))
    for target, of in zip((0.2, 0.4, 0.6, 0.8, 1.0), levels.values(), strict=True):
        counted = [loose_results(ASKED, WORKED, one.text) for one in made if one.target == target]
        assert of["loose"] == sum(counted) / 8
    assert levels["0.4"]["loose"] > levels["1"]["loose"] == 0
    assert f"| {levels['0.4']['loose']:.2f} |" in (outcome.folder / "report.md").read_text()
