"""What a calibration's rows say: intervals, bins, and which levels are dominated."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot_client.calibration import (
    Level,
    Plan,
    baseline_bins,
    bin_of,
    efforts_of,
    judged,
    levels_of,
    prompt_lengths,
)
from extracot_client.calibration_card import make_card, undecided
from extracot_client.errors import InvalidArgumentError
from extracot_client.intervals import (
    by_chance,
    mean_of,
    paired_shares,
    percentile,
    share,
    student,
)
from extracot_client.savings import is_native
from extracot_client.sweeps import SweepProblem, wilson
from extracot_client.types import BudgetCardPage, SweepRow

PAGE = BudgetCardPage.model_validate(
    {
        "model": "m",
        "prompt": {
            "instruction": None,
            "system_prompt": None,
            "think_start": "<think>",
            "think_end": "</think>",
            "tokenizer_hash": "sha256:" + "0" * 64,
        },
        "profile": {"efforts": ["low", "high"]},
    }
)
ABOUT: dict[str, Any] = {"dataset": "made", "sampling": {}}


def rows(tokens: Sequence[int], right: Sequence[bool], seeds: int = 1) -> list[SweepRow]:
    """One row a problem and seed, all seeds alike."""
    return [
        SweepRow(
            problem_id=f"p{at}",
            budget=None,
            fingerprint=f"{seed}",
            question="q",
            gold="1",
            boxed="1" if correct else "2",
            prompt_tokens=10 + at,
            reasoning_tokens=count,
            answer_tokens=5,
        )
        for seed in range(seeds)
        for at, (count, correct) in enumerate(zip(tokens, right, strict=True))
    ]


def card_of(n: int, **kinds: tuple[int, float]) -> Any:
    """A card of levels by their tokens and shares of right answers; native needs 100."""
    draw = random.Random(4)

    def made(tokens: int, accuracy: float) -> list[SweepRow]:
        right = [at < accuracy * n for at in range(n)]
        spread = [max(0, tokens + draw.randrange(-2, 3)) if tokens else 0 for _ in range(n)]
        return judged(rows(spread, right), "")

    found = {"native": made(100, 0.9), "none": made(0, 0.1)}
    found |= {name: made(*kind) for name, kind in kinds.items() if name != "none"}
    if "none" in kinds:
        found["none"] = made(*kinds["none"])
    levels = [
        Level(name, ratio=0.5) if name[0] == "c" else Level(name, effort=name)
        for name in kinds
        if name != "none"
    ]
    asked = [f"How many are {at} and {at}?" for at in range(n)]
    return make_card(PAGE, levels, found, baseline_bins(found["native"]), ABOUT, asked)


def marked(card: Any) -> dict[str, str | None]:
    return {level.name: level.dominated_by for level in card.levels}


def test_cheaper_and_more_accurate_dominates() -> None:
    card = card_of(100, c1=(20, 0.9), c2=(60, 0.7))
    assert marked(card) == {"c1": None, "c2": "c1"}
    assert [level.name for level in card.levels] == ["c1", "c2"]


def test_an_effort_may_dominate_a_cap_and_none_may_dominate_both() -> None:
    assert marked(card_of(100, low=(20, 0.9), c2=(60, 0.5))) == {"low": None, "c2": "low"}
    card = card_of(100, none=(0, 0.8), c1=(20, 0.5), c2=(60, 0.95))
    assert marked(card) == {"c1": "none", "c2": None}


def test_as_accurate_is_not_more_accurate() -> None:
    assert marked(card_of(100, c1=(20, 0.9), c2=(60, 0.9))) == {"c1": None, "c2": None}


def test_what_chance_could_do_dominates_nothing() -> None:
    assert marked(card_of(10, c1=(20, 0.9), c2=(60, 0.7))) == {"c1": None, "c2": None}


def test_a_handful_of_problems_dominates_nothing() -> None:
    for n in (3, 10, 29):
        assert marked(card_of(n, c1=(20, 1.0), c2=(60, 0.0))) == {"c1": None, "c2": None}
    assert marked(card_of(30, c1=(20, 1.0), c2=(60, 0.0)))["c2"] == "c1"


@pytest.mark.parametrize(("gained", "dominated"), [(5, None), (6, "c1")])
def test_domination_holds_by_an_exact_test_as_well(gained: int, dominated: str | None) -> None:
    """Five of five by chance are 0.031, six of six 0.016."""
    card = card_of(40, c1=(20, 0.5 + gained / 40), c2=(60, 0.5))
    assert marked(card)["c2"] == dominated
    assert (by_chance([1.0] * gained) <= 0.025) == (dominated is not None)


def test_dearer_dominates_nothing() -> None:
    assert marked(card_of(100, c1=(20, 0.5), c2=(60, 0.9))) == {"c1": None, "c2": None}


def test_a_level_that_does_not_reason_is_none_and_left_out() -> None:
    card = card_of(40, off=(0, 0.5), c1=(20, 0.9), c2=(60, 0.9))
    assert [level.name for level in card.levels] == ["c1", "c2"]
    with pytest.raises(InvalidArgumentError, match="does not reason at two levels"):
        card_of(40, off=(0, 0.5), c1=(20, 0.9))


def test_the_card_knows_of_which_prompts_it_speaks() -> None:
    card = card_of(40, c1=(20, 0.9), c2=(60, 0.9))
    assert card.prompts is not None and card.prompts.n == 40
    assert card.prompts.covers("How many are 8 and 77?")
    assert not card.prompts.covers("Write a poem about rain.")
    assert card_of(12, c1=(20, 0.9), c2=(60, 0.9)).prompts is None  # too few to tell


@pytest.mark.parametrize("name", ["native", "auto", "cap", "0.4", "very high", ""])
def test_what_no_level_can_be_called_is_said_before_anything_is_asked(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="--efforts"):
        levels_of([0.2, 0.4], [name])


def test_a_level_s_replies_are_none_of_the_native_ones() -> None:
    made = [row.model_copy(update={"level": "native"}) for row in rows([20], [True])]
    assert is_native(judged(made, "native")[0])
    assert not is_native(judged(made, "low")[0])  # asked for natively, with an effort


def test_an_effort_may_be_more_than_native() -> None:
    card = card_of(40, c1=(20, 0.9), high=(220, 0.95))
    assert card.level("high").realised.mean == pytest.approx(2.2, abs=0.05)
    assert (card.level("high").effort, card.level("high").ratio) == ("high", None)


def test_answers_that_cannot_be_judged_are_left_out_and_counted() -> None:
    made = rows([10, 10, 10], [True, True, False])
    made[0] = made[0].model_copy(update={"gold": "1+x", "boxed": "x+1"})
    found = {"native": judged(made, "native")}
    assert undecided(found) == 1 and [row.correct for row in found["native"]] == [None, True, False]


@pytest.mark.parametrize(("n", "bins"), [(1, 1), (59, 1), (60, 2), (90, 3), (500, 3)])
def test_bins_have_enough_problems_and_cover_every_length(n: int, bins: int) -> None:
    made = rows([100 + at for at in range(n)], [True] * n)
    found = baseline_bins(made)
    assert len(found) == bins and found[-1].max_prompt_tokens is None
    assert sum(entry.n for entry in found) == n
    assert bin_of(found, 1) is found[0] and bin_of(found, 10**6) is found[-1]
    means = [entry.reasoning.mean for entry in found]
    assert means == sorted(means)


def test_problems_of_one_length_are_one_bin() -> None:
    made = [row.model_copy(update={"prompt_tokens": 7}) for row in rows([10] * 90, [True] * 90)]
    assert [entry.max_prompt_tokens for entry in baseline_bins(made)] == [None]


def test_a_cap_is_a_ratio_of_what_the_server_assumes() -> None:
    plan = Plan([SweepProblem("p0", "q", "1")], levels_of([0.4, 0.8], []), [0], assumed=512.0)
    made = rows([640], [True])
    bins = baseline_bins(made)
    plan.check_reach(bins)  # 0.8 of 640 is all that the server takes for 1.0
    batches = list(plan.of_levels(bins, prompt_lengths(made)))
    assert [batch.budget for batch in batches] == [{"ratio": 0.5}, {"ratio": 1.0}]
    with pytest.raises(InvalidArgumentError, match="--assumed-reasoning-tokens 600"):
        plan.check_reach(baseline_bins(rows([642], [True])))


def test_efforts_are_asked_natively_and_seeds_go_with_every_kind() -> None:
    plan = Plan([SweepProblem("p0", "q", "1")], levels_of([0.5], efforts_of(PAGE)), [3, 4], 512.0)
    made = rows([100], [True])
    batches = [*plan.words(), *plan.of_levels(baseline_bins(made), prompt_lengths(made))]
    assert len(batches) == plan.requests == 2 * 5
    efforts = [
        (b.budget, b.options["extra"], b.options["seed"]) for b in batches if b.name == "low"
    ]
    assert efforts == [("native", {"reasoning_effort": "low"}, seed) for seed in (3, 4)]


def test_no_effort_is_measured_as_none() -> None:
    assert [level.name for level in levels_of([0.4], ["none", "low"])] == ["0.4", "low"]


def test_levels_are_refused_by_what_is_wrong_with_them() -> None:
    for ratios, says in (([0.4], "two levels"), ([0.0, 0.4], "0.0 is not in"), ([1.5, 1], "1.5")):
        with pytest.raises(InvalidArgumentError, match=says):
            levels_of(ratios, [])


def test_replies_to_one_problem_are_not_independent() -> None:
    once = share([[True]] * 8 + [[False]] * 2)
    thrice = share([[True] * 3] * 8 + [[False] * 3] * 2)
    mixed = share([[True, True, False]] * 10)
    assert once is not None and thrice is not None and mixed is not None
    assert (once.low, once.high) == wilson(8, 10)
    assert thrice.high - thrice.low == pytest.approx(once.high - once.low, rel=0.1)
    assert mixed.high - mixed.low < once.high - once.low
    assert share([]) is None and share([[]]) is None


groups = st.lists(st.lists(st.booleans(), min_size=1, max_size=4), min_size=1, max_size=40)


@given(groups)
def test_a_share_lies_within_its_interval(found: list[list[bool]]) -> None:
    made = share(found)
    assert made is not None and 0 <= made.low <= made.mean <= made.high <= 1


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40))
def test_a_difference_lies_within_its_interval(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    made, back = paired_shares(ours, theirs), paired_shares(theirs, ours)
    assert made is not None and back is not None
    assert -1 <= made.low <= made.mean <= made.high <= 1
    assert made.low == pytest.approx(-back.high, abs=1e-9)


def test_pairs_say_more_than_two_shares() -> None:
    ours = [1.0] * 80 + [0.0] * 20
    theirs = [1.0] * 70 + [0.0] * 30
    found = paired_shares(ours, theirs)
    assert found is not None and found.low > 0  # two of them by themselves overlap
    assert wilson(70, 100)[1] > wilson(80, 100)[0]
    assert paired_shares([], []) is None


def test_means_and_percentiles() -> None:
    assert mean_of([]) is None and mean_of([[], []]) is None
    found = mean_of([[1.0], [3.0]])
    assert found is not None and found.high is not None
    assert (found.mean, round(found.high, 2)) == (2.0, 14.71)
    assert [percentile([5.0], p) for p in (0.0, 0.5, 1.0)] == [5.0] * 3
    assert percentile([4, 1, 3, 2], 0.5) == 2.5


def test_an_interval_has_a_width_or_is_none() -> None:
    for values in ([[5.0]], [[5.0, 6.0]], [[5.0], [5.0]], [[1 / 3] * 3] * 40):
        found = mean_of(values)
        assert found is not None and (found.low, found.high) == (None, None)


@given(st.lists(st.lists(st.floats(0, 1e4), min_size=1, max_size=4), min_size=1, max_size=30))
def test_a_mean_lies_within_its_interval(groups: list[list[float]]) -> None:
    found = mean_of(groups, least=0.0)
    assert found is not None
    if found.low is not None and found.high is not None:
        assert 0 <= found.low <= found.mean < found.high


def test_small_means_hold_the_truth_as_often_as_they_say() -> None:
    draw, held = random.Random(3), 0
    for _ in range(2000):
        found = mean_of([[draw.gauss(50, 20)] for _ in range(4)])
        assert found is not None and found.low is not None and found.high is not None
        held += found.low <= 50 <= found.high
    assert 0.935 <= held / 2000 <= 0.965


def test_students_t_is_that_of_the_tables() -> None:
    known = {1: 12.7062, 5: 2.57058, 10: 2.22814, 11: 2.20099, 30: 2.04227, 120: 1.97993}
    for df, value in known.items():
        assert student(df) == pytest.approx(value, abs=2e-5)
