"""What the choice is worth: auto against every fixed level and mix, and what it tells."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from extracot_training.evaluation.choice import against_every, against_fixed, information
from extracot_training.evaluation.report import report_of
from extracot_training.evaluation.rows import EvalRow
from extracot_training.evaluation.table import tables_of
from extracot_training.pipeline.settings import BootstrapSettings
from tests.training.test_evaluate import figures, row

KINDS = (0.2, 0.6)


def rows(*, choose: dict[float, float], problems: int = 40) -> list[EvalRow]:
    """Kinds that need 0.2 and 0.6 in turn: right from there on. Level c generates 100 c tokens of
    reasoning and 10 of answer; auto takes ``choose[need]``."""
    made = []
    for number in range(problems):
        need = KINDS[number % 2]
        for budget, level in (("0.2", 0.2), ("0.6", 0.6), ("1.0", 1.0), ("auto", choose[need])):
            tokens = round(100 * level)
            changes: dict[str, Any] = {"completion_tokens": tokens + 10, "family": f"f{need}"}
            if budget == "auto":
                changes["level"] = level
            made.append(row(number, budget, tokens, right=level >= need, **changes))
    return made


def compared(choose: dict[float, float]) -> dict[str, Any]:
    found = against_every(tables_of(rows(choose=choose), 1), BootstrapSettings(resamples=200))
    assert found is not None
    return found


def test_a_choice_by_need_beats_every_mix_of_its_cost() -> None:
    found = compared({0.2: 0.2, 0.6: 0.6})
    assert found["tokens"] == 50 and found["accuracy"] == 1.0 and found["n"] == 40
    assert [one["name"] for one in found["levels"]] == ["0.2", "0.6", "1.0"]
    mixes = {one["name"]: one for one in found["mixes"]}
    assert set(mixes) == {"0.2 and 0.6 (50%)", "0.2 and 1.0 (25%)"}
    assert mixes["0.2 and 0.6 (50%)"]["accuracy"] == pytest.approx(0.75)
    assert mixes["0.2 and 1.0 (25%)"]["accuracy"] == pytest.approx(0.625)
    assert found["hardest"]["name"] == "0.2 and 0.6 (50%)"
    difference = found["hardest"]["difference"]
    assert difference["mean"] == pytest.approx(0.25) and difference["low"] > 0.1


def test_a_choice_that_depends_on_nothing_beats_no_level() -> None:
    found = compared({0.2: 0.6, 0.6: 0.6})
    assert found["hardest"]["accuracy"] == 1.0 and found["hardest"]["difference"]["mean"] == 0.0
    assert all(one["tokens"] == pytest.approx(70) for one in found["mixes"])
    cheap = compared({0.2: 0.2, 0.6: 0.2})
    assert cheap["hardest"]["accuracy"] == 0.5


def test_a_choice_cheaper_than_all_levels_has_no_fair_opponent() -> None:
    made = [
        one.model_copy(update={"completion_tokens": 5}) if one.budget == "auto" else one
        for one in rows(choose={0.2: 0.2, 0.6: 0.2})
    ]
    found = against_every(tables_of(made, 1), BootstrapSettings(resamples=200))
    assert found is not None and found["mixes"] == [] and found["hardest"] is None
    without = [one for one in made if one.budget != "auto"]
    assert against_every(tables_of(without, 1), BootstrapSettings(resamples=200)) is None


def test_at_equal_cost_nothing_differs_where_tokens_tell_what_is_right() -> None:
    # A right reply has 90 tokens of reasoning and a wrong one 10, at every budget.
    often = {"0.2": 0.1, "1.0": 0.9, "auto": 0.5}
    rng = np.random.default_rng(1)
    made = [
        row(number, budget, 90 if right else 10, right=right)
        for budget, share in often.items()
        for number, right in enumerate((rng.random(40) < share).tolist())
    ]
    tables, settings = tables_of(made, 1), BootstrapSettings(resamples=200)
    every, fixed = against_every(tables, settings), against_fixed(tables, settings)
    assert every is not None and fixed is not None and len(every["mixes"]) == 1
    for found in (every["mixes"][0], fixed["mix"]):
        assert found["accuracy"] == pytest.approx(every["accuracy"])
        assert found["difference"] == pytest.approx({"mean": 0, "low": 0, "high": 0, "n": 40})


def test_what_a_choice_tells_of_the_problem() -> None:
    needs = {"family": lambda one: one.family, "steps": lambda one: None}
    auto = [one for one in rows(choose={0.2: 0.2, 0.6: 0.6}) if one.budget == "auto"]
    found = information(auto, needs)
    assert found["entropy"] == pytest.approx(math.log(2))
    assert found["family"]["mutual"] == pytest.approx(math.log(2)) == found["family"]["most"]
    assert found["family"]["by_chance"] == pytest.approx(1 / 80) and "steps" not in found
    constant = [one for one in rows(choose={0.2: 0.6, 0.6: 0.6}) if one.budget == "auto"]
    found = information(constant, needs)
    assert found["entropy"] == 0.0 and found["family"]["mutual"] == 0.0
    assert information([], needs) == {"n": 0, "entropy": 0.0}


def test_the_report_has_both() -> None:
    found = figures()
    text = report_of(found)
    assert "### By all tokens" in text and "| 0.2 and 1.0 (" in text
    assert text.count("each resample works out anew at which share the mix costs") == 2
    assert "mutual information" in text and "of all tokens" in text
    assert found["budgets"]["0.2"]["against"]["1.0"]["ratio_of_totals"]["mean"] == pytest.approx(
        (110 + 4 * 5) / (400 + 4 * 5)
    )
