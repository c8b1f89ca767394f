"""Stage evaluate: figures against numbers worked out by hand, what a card gets, the drawings."""

from __future__ import annotations

from typing import Any

import pytest

from extracot.figures import BaselineCard
from extracot.sketch import PromptSketch
from extracot_training.errors import ConfigError
from extracot_training.evaluation.card import CardFigures, card_of
from extracot_training.evaluation.figures import figures_of
from extracot_training.evaluation.plots import draw
from extracot_training.evaluation.report import report_of
from extracot_training.evaluation.rows import EvalRow, budget_name
from extracot_training.evaluation.server import Server
from extracot_training.evaluation.table import busy_seconds, tables_of
from extracot_training.evaluation.working import Cause, calculations, cause
from extracot_training.pipeline.statistics import ratio_estimate
from tests.training.evaluations import config, problem

SERVER = Server(
    "extracot", "m", mode="token", levels={"0.2": (0.2, 0.2), "1.0": (1.0, 1.0)}, auto=True
)


def row(number: int, budget: str, tokens: int, *, right: bool = True, **changes: Any) -> EvalRow:
    base: dict[str, Any] = {
        "problem_id": f"p{number}",
        "budget": budget,
        "sample": 0,
        "seed": 1,
        "prompt_tokens": 10 * (number + 1),
        "reasoning_tokens": tokens,
        "answer_tokens": 5,
        "completion_tokens": tokens + 5,
        "finish_reason": "stop",
        "closed_by": "model",
        "first_token_s": 0.1,
        "first_answer_s": 0.2,
        "seconds": 1.0,
        "started": float(number),
        "gold": "1",
        "boxed": "1",
        "family": "sums",
        "steps": 1 + number // 2,
        "correct": right,
        "strict": right,
    }
    return EvalRow.model_validate(base | changes)


def table_rows() -> list[EvalRow]:
    """Four problems: tokens and rightness chosen so that every figure is easy to work out."""
    full = (100, 100, 200, 0)
    return [
        *(row(n, "1.0", tokens) for n, tokens in enumerate(full)),
        *(row(n, "native", tokens + 20) for n, tokens in enumerate(full)),
        row(0, "0.2", 20),
        row(1, "0.2", 40, right=False, strict=False, boxed=None),
        row(2, "0.2", 40, right=False, correct=True, closed_by=None, unclosed=True),
        row(3, "0.2", 10, closed_by="server", cap_hit=True),
        row(0, "auto", 20, level=0.2),
        row(1, "auto", 100, level=1.0),
        row(2, "auto", 180, level=1.0, right=False),
        row(3, "auto", 0, level=0.2),
    ]


def figures(**changes: Any) -> dict[str, Any]:
    problems = [problem(number) for number in range(4)]
    r_star = {"p0": 0.2, "p1": 1.0, "p2": 1.0}
    return figures_of(table_rows(), problems, config(**changes), SERVER, r_star)


def test_figures_are_those_worked_out_by_hand() -> None:
    budgets = figures()["budgets"]
    low = budgets["0.2"]
    assert low["accuracy"]["mean"] == 0.75 and low["strict"]["mean"] == 0.5
    assert low["accuracy"]["low"] < 0.75 < low["accuracy"]["high"]
    assert low["tokens"]["reasoning"] == {"mean": 27.5, "p50": 30.0, "p90": 40.0}
    assert low["tokens"]["completion"]["mean"] == 32.5
    # Unclosed: p2 ended inside the block, p3 was closed by the server; both counted in full.
    assert (low["unclosed_rate"], low["cut_rate"], low["cap_hit_rate"]) == (0.5, 0.25, 0.25)
    assert low["no_box_rate"] == 0.25
    against = low["against"]["1.0"]
    assert against["ratio_of_sums"]["mean"] == 110 / 400
    # p3 has no tokens at level 1.0, so it has no ratio of its own: (0.2 + 0.4 + 0.2) / 3.
    assert against["mean_of_ratios"] == pytest.approx(0.8 / 3)
    assert (against["p10"], against["p90"]) == (pytest.approx(0.2), pytest.approx(0.36))
    assert against["accuracy"]["mean"] == -0.25 and against["strict"]["mean"] == -0.5
    assert not against["accuracy_non_inferior"]
    assert low["against"]["native"]["ratio_of_sums"]["mean"] == 110 / 480
    assert budgets["native"]["against"]["1.0"]["accuracy_non_inferior"]
    assert low["by_steps"]["1"] == {"n": 2, "accuracy": 0.5, "reasoning": 30.0, "ratio": 60 / 200}
    assert low["by_family"]["sums"]["ratio"] == 110 / 400


def test_it_is_told_why_replies_are_wrong() -> None:
    assert figures()["budgets"]["0.2"]["working"] == {
        "wrong": 1,
        "causes": {"cut_off": 0, "no_answer": 1, "miscalculated": 0, "other": 0},
        "calculations": 0,
        "share": None,
    }
    rows = [
        row(0, "1.0", 9, calculations=4, miscalculated=1),  # mended by itself: right
        row(1, "1.0", 9, right=False, calculations=3, miscalculated=2),
        row(2, "1.0", 9, right=False, calculations=3),
        row(3, "1.0", 9, right=False, unclosed=True, boxed=None, miscalculated=1, calculations=2),
        row(4, "1.0", 9, right=False, finish_reason="length"),
        row(5, "1.0", 9, right=False, boxed=None),
        row(6, "1.0", 9, right=False, refused="no"),
    ]
    assert [cause(one) for one in rows] == [
        *(None, Cause.MISCALCULATED, Cause.OTHER, Cause.CUT_OFF, Cause.CUT_OFF, Cause.NO_ANSWER),
        None,
    ]
    found = figures_of(rows, [problem(n) for n in range(7)], config(budgets=[1.0]), SERVER, {})
    assert "| 1.0 | 5 | 2 | 1 | 1 | 1 | 12 | 0.667 |" in report_of(found)


def test_calculations_of_a_reply_are_judged_where_they_are_plain() -> None:
    assert calculations("So 3 × 4 = 12, then 12 + 5 = 18. Let $x = 5$, so \\boxed{18}") == (2, 1)
    assert calculations("Half of 10 is 5, \\(\\frac{7}{3} = 2.33\\).") == (1, 0)
    assert calculations("") == (0, 0)


def test_a_wider_margin_makes_more_non_inferior() -> None:
    assert figures(margin=0.9)["budgets"]["0.2"]["against"]["1.0"]["accuracy_non_inferior"]


def test_levels_of_auto_by_difficulty_and_against_fixed() -> None:
    found = figures()
    auto = found["budgets"]["auto"]
    assert auto["levels"] == {"0.2": 0.5, "1.0": 0.5}
    assert auto["levels_by_r_star"]["0.2"] == {"n": 1, "mean": 0.2, "levels": {"0.2": 1.0}}
    assert auto["levels_by_r_star"]["1.0"]["mean"] == 1.0
    assert auto["levels_by_steps"]["2"]["mean"] == pytest.approx(0.6)
    match = found["auto_against_fixed"]
    assert (match["tokens"], match["accuracy"]) == (75.0, 0.75)
    # Level 1.0 costs 100: too dear. 0.2 costs 27.5 and gets 0.75.
    assert match["best"]["budget"] == "0.2" and match["best"]["difference"]["mean"] == 0
    # 75 lies (75 - 27.5) / 72.5 of the way from 0.2 (0.75) to 1.0 (1.0).
    share = (75 - 27.5) / 72.5
    assert match["mix"]["share_of_upper"] == pytest.approx(share)
    assert match["mix"]["tokens"] == pytest.approx(75)
    assert match["mix"]["accuracy"] == pytest.approx(0.75 + 0.25 * share)
    assert match["mix"]["difference"]["mean"] == pytest.approx(-0.25 * share)


def test_figures_by_how_many_stories_are_asked_for() -> None:
    assert figures()["budgets"]["0.2"]["by_asked"] == {}
    assert "Stories asked for" not in report_of(figures())
    rows = [
        row.model_copy(update={"asked": {"p0": 1, "p1": 3, "p2": 3}.get(row.problem_id)})
        for row in table_rows()
    ]
    found = figures_of(rows, [problem(number) for number in range(4)], config(), SERVER, {})
    low, auto = found["budgets"]["0.2"], found["budgets"]["auto"]
    assert low["by_asked"] == {
        "1": {"n": 1, "accuracy": 1.0, "reasoning": 20.0, "ratio": 0.2},
        "3": {"n": 2, "accuracy": 0.5, "reasoning": 40.0, "ratio": 80 / 300},
    }
    assert auto["levels_by_asked"]["1"]["mean"] == 0.2
    assert auto["levels_by_asked"]["3"] == {"n": 2, "mean": 1.0, "levels": {"1.0": 1.0}}
    # One story goes with 0.2, three with 1.0: the choice tells all of it.
    chosen = auto["choice"]["asked"]
    assert chosen["mutual"] == pytest.approx(chosen["most"])
    told = report_of(found)
    assert "## Stories asked for: accuracy" in told
    assert "| stories asked for | replies | mean level | levels |" in told
    assert [problem(1, meta={"asked": count}).asked for count in (2, 0, "2", None)] == [
        2, None, None, None,
    ]  # fmt: skip


def test_times_are_of_the_busy_span() -> None:
    # Requests of a second each, started 0, 1, 2, 3: busy for four seconds.
    times = figures()["budgets"]["1.0"]["times"]
    assert times["end_to_end"] == {"mean": 1.0, "p50": 1.0, "p90": 1.0}
    assert times["busy_s"] == 4.0 and times["tokens_per_s"] == 420 / 4
    assert busy_seconds([(0, 2), (1, 3), (10, 11)]) == 4
    assert busy_seconds([]) == 0


def test_samples_average_within_a_problem_and_incomplete_problems_are_left_out() -> None:
    rows = [
        row(0, "0.2", 10, sample=0),
        row(0, "0.2", 30, sample=1, right=False),
        row(1, "0.2", 10, sample=0),
        row(1, "0.2", 0, sample=1, refused="too long"),
    ]
    table = tables_of(rows, 2)["0.2"]
    assert list(table.rows) == ["p0"] and (table.refused, table.incomplete) == (1, 1)
    assert table.accuracy("p0") == 0.5 and table.reasoning("p0") == 40


def test_what_a_card_gets() -> None:
    found = figures()
    card = CardFigures.model_validate(found["card"])
    level = card.levels["0.2"]
    assert level.realised is not None and level.realised.mean == 110 / 400
    assert (level.unclosed_rate, level.n, level.accuracy.mean) == (0.5, 4, 0.75)
    assert card.levels["1.0"].realised is not None and card.levels["1.0"].realised.mean == 1
    assert card.policy is not None and card.policy.realised is not None
    assert card.policy.realised.mean == 300 / 400
    assert card.baseline.native[0].reasoning.mean == 120
    assert card.baseline.full[0].max_prompt_tokens is None
    tables = tables_of(table_rows(), 1)
    split = card_of(found, tables, config(prompt_bins=[10, 30, 90]), SERVER)
    bins = BaselineCard.model_validate(split["baseline"]).full
    # Prompts are of 10, 20, 30 and 40 tokens; nothing lies above 90.
    assert [(b.max_prompt_tokens, b.n) for b in bins] == [(10, 1), (30, 2), (None, 1)]
    assert [b.reasoning.mean for b in bins] == [100, 150, 0]
    plain = card_of(found, tables, config(), Server("plain", "m"))
    assert plain["levels"] == {} and plain["baseline"]["full"] == []
    assert found["card"]["prompts"] is None, "too few problems to say what they look like"


def test_a_card_gets_what_its_problems_look_like() -> None:
    rows = [row(n, "native", 50, problem_id=f"p{n}") for n in range(40)]
    asked = [problem(n) for n in range(40)]
    found = figures_of(rows, asked, config(budgets=["native"]), SERVER, {})
    prompts = CardFigures.model_validate(found["card"]).prompts
    assert prompts == PromptSketch.of(each.question for each in asked)
    assert prompts is not None and prompts.n == 40


def test_terciles_need_enough_replies() -> None:
    rows = [row(n % 90, "native", 50, problem_id=f"q{n}") for n in range(120)]
    tables = tables_of(rows, 1)
    budgets = figures_of(rows, [problem(0)], config(budgets=["native"]), SERVER, {})
    bins = budgets["card"]["baseline"]["native"]
    assert len(bins) == 3 and sum(b["n"] for b in bins) == 120 and bins[-1]["n"] >= 30
    assert len(tables["native"].rows) == 120


def test_ratios_are_of_sums() -> None:
    found = ratio_estimate([10, 90], [100, 100], resamples=200, seed=1)
    assert found is not None and (found.mean, found.low, found.high) == (0.5, 0.1, 0.9)
    assert ratio_estimate([1], [0], resamples=200, seed=1) is None


def test_every_drawing_is_made_and_shown() -> None:
    found = figures()
    images = draw(found)
    assert set(images) == {"accuracy_tokens.png", "requested_realised.png", "level_difficulty.png"}
    assert all(image.startswith(b"\x89PNG") for image in images.values())
    text = report_of(found)
    assert all(f"({name})" in text for name in images)
    assert "| 0.2 | 4 | -0.250 [" in text and "not shown" in text
    assert "| auto | 0.750" not in text and "best that costs no more: 0.2" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budgets": [0.2, 0.2]}, "one is there twice"),
        ({"budgets": [1.5]}, "less than or equal to 1"),
        ({"budgets": ["fast"]}, "'auto', 'native' or 'none'"),
        ({"request_extra": {"seed": 1}}, "'seed' is set by the stage"),
        ({"prompt_bins": [9, 5]}, "want them increasing"),
    ],
)
def test_wrong_settings_are_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=message):
        config(**changes)
    assert budget_name(1.0) == "1.0"


def test_the_papers_figures_stand_beside_ours_where_they_are_asked_for() -> None:
    text = report_of(figures(published="math500"))
    section = text.partition("## Beside the paper's figures")[2]
    assert "| ours, 0.2 | 28 | 75.0 | 0.28 |" in section
    assert "| base | 1675 | 64.2 |  |" in section
    assert "| Extra-CoT CHRPO | 452 | 64.8 | 0.27 |" in section
    assert "paper" not in report_of(figures())
