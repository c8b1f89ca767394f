"""CHRPO's rewards: worked values, and what they promise on every input."""

from __future__ import annotations

import doctest
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from extracot_training.config import objective as formulas
from extracot_training.config.chrpo import ChrpoConfig
from extracot_training.config.objective import (
    Objective,
    bought_label,
    calibration,
    huber,
    mode,
    spent,
)
from extracot_training.stages.chrpo import reward as module
from extracot_training.stages.chrpo.choice import level_worth
from extracot_training.stages.chrpo.reward import Result, Reward, repeated_share, reward

LEVELS = (0.2, 0.4, 0.6, 0.8, 1.0)
OURS = Objective()
# The method's earlier form, with weights by hand.
PAPER = Objective(kind="chrpo_capped")

levels = st.sampled_from(LEVELS)
ratios = st.floats(0.0, 20.0)
shares = st.floats(0.0, 1.0)
# The method itself, its ablations, and other coefficients that the settings allow.
objectives = st.sampled_from(
    [
        OURS,
        Objective(price=1.0),
        Objective(price=0.0, price_most=0.5, calibration=0.3, repetition=0.6),
        PAPER,
        Objective(mode=False),
        Objective(ctrl=False),
        Objective(mode=False, ctrl=False),
        Objective(kappa=0.5, slope=2.0, calibration=0.3, repetition=0.4),
        Objective(kind="chrpo_capped", calibration=0.0, repetition=0.0),
    ]
)
capped = objectives.filter(lambda one: one.kind == "chrpo_capped")


def right(level: float, ratio: float | None = None, repeated: float = 0.0) -> Result:
    """A right answer, as long as its level says unless told otherwise."""
    return Result(level, True, True, level if ratio is None else ratio, repeated)


def wrong(level: float, ratio: float | None = None, repeated: float = 0.0) -> Result:
    return Result(level, True, False, level if ratio is None else ratio, repeated)


def invalid(level: float | None) -> Result:
    return Result(level, False, False, 0.3)


def test_the_worked_values_hold() -> None:
    for tested, least in ((module, 13), (formulas, 4)):
        outcome = doctest.testmod(tested)
        assert outcome.attempted >= least and outcome.failed == 0


@pytest.mark.parametrize(
    ("result", "needed", "main", "ctrl"),
    [
        # 1 + 0.1 + 0.25 * (0.6 - 0.4) and the choice's own part of it
        (right(0.4), 0.6, 1.15, 0.05),
        # off by one tolerance: 1 + 0.1 * (1 - 0.5), and 0.5 is what it pays for: 0.25 * (0.4 - 0.5)
        (right(0.4, ratio=0.5), 0.4, 1.025, -0.025),
        # far too long for its level: 1 - 0.1 - 0.1, and half of it repeats: - 0.2 * 0.5
        (right(0.2, ratio=1.0, repeated=0.5), 0.2, 0.7, -0.1),
        # 0.25 * (0.2 - 1.0) = -0.2, clipped to -0.1
        (right(1.0), 0.2, 1.0, -0.1),
        (wrong(0.4), 1.0, -0.6, -0.8),
        (wrong(1.0), 0.4, 0.0, -0.2),
        (wrong(0.6, ratio=9.0, repeated=1.0), 0.6, 0.0, -0.2),
        (invalid(0.2), 0.2, -1.0, -1.0),
        (invalid(None), 1.0, -1.0, -1.0),
    ],
)
def test_rewards_by_hand(result: Result, needed: float, main: float, ctrl: float) -> None:
    earned = reward(result, needed, PAPER)
    assert earned.main == pytest.approx(main)
    assert earned.ctrl == pytest.approx(ctrl)


@given(levels, st.booleans(), st.booleans(), ratios, shares, levels, objectives)
def test_the_logged_terms_add_up(
    level: float, valid: bool, correct: bool, ratio: float, repeated: float, needed: float,
    objective: Objective,
) -> None:  # fmt: skip
    earned = reward(Result(level, valid, correct, ratio, repeated), needed, objective)
    names = ("accuracy", "calibration", "mode", "repetition", "under", "length", "invalid")
    assert sum(getattr(earned, name) for name in names) == pytest.approx(earned.main)


@given(levels, levels, levels, ratios, ratios, shares, shares, objectives)
def test_every_correct_reply_outranks_every_wrong_one(
    c: float, d: float, needed: float, r: float, s: float, p: float, q: float, objective: Objective
) -> None:
    good, bad = reward(right(c, r, p), needed, objective), reward(wrong(d, s, q), needed, objective)
    assert good.main > bad.main
    assert good.ctrl > bad.ctrl


@given(levels, levels, levels, ratios, ratios, shares, shares, objectives)
def test_a_wrong_answer_gains_nothing_by_its_length(
    c: float, d: float, needed: float, r: float, s: float, p: float, q: float, objective: Objective
) -> None:
    """All tokens but the level's; that pays for what was spent, by the same price as a right one's,
    and never less than it promised."""
    one, other = (
        reward(wrong(c, r, p), needed, objective),
        reward(wrong(c, s, q), needed, objective),
    )
    assert one.main == other.main
    if objective.kind == "chrpo_capped":
        assert one == other
    else:
        assert one.main == reward(wrong(d, s, q), needed, objective).main == 0.0
        assert one.ctrl == -objective.price * max(c, min(r, 1.0))
        assert reward(right(c, r, p), needed, objective).ctrl - one.ctrl == pytest.approx(1.0)


@given(levels, ratios, levels, st.booleans(), st.floats(0.0, 1.0))
def test_a_price_is_paid_by_the_level_token_alone(
    c: float, r: float, needed: float, correct: bool, price: float
) -> None:
    result = Result(c, True, correct, r)
    free, paid = reward(result, needed, OURS, 0.0), reward(result, needed, OURS, price)
    assert paid.main == free.main
    assert free.ctrl - paid.ctrl == pytest.approx(price * spent(c, r)) == pytest.approx(paid.cost)


@given(levels, levels, ratios, shares, levels, objectives)
def test_no_label_pays_that_the_reply_does_not_keep(
    c: float, d: float, extra: float, repeated: float, needed: float, objective: Objective
) -> None:
    """A right reply as long as the larger level says, or longer, under both labels."""
    small, honest = sorted((c, d))
    ratio = honest + extra
    bought, kept = (
        level_worth(reward(right(level, ratio, repeated), needed, objective), objective)
        for level in (small, honest)
    )
    assert bought <= kept + 1e-12


def test_counter_example_a_full_length_reply_under_a_small_label() -> None:
    """kappa = slope = 0.5 and r* = 1.0, as shipped before: 1.275 under <COMP_20>, 1.10 honestly."""
    objective = Objective(kappa=0.5, slope=0.5)
    bought = level_worth(reward(right(0.2, 1.0), 1.0, objective), objective)
    honest = level_worth(reward(right(1.0, 1.0), 1.0, objective), objective)
    assert honest == pytest.approx(1.10)
    assert bought == pytest.approx(0.90)

    def before(level: float, ratio: float) -> float:
        choice = mode(level, 1.0, objective)
        return 1.0 + calibration(ratio, level, objective) + choice + objective.beta * choice

    assert before(0.2, 1.0) == pytest.approx(1.275)
    assert bought_label(before) is not None, "the check finds it"
    assert bought_label(lambda level, ratio: objective.worth(level, ratio, 1.0)) is None
    # So does a price of the label instead of what was spent.
    assert bought_label(lambda level, ratio: 1.0 - 0.4 * level) == (0.1, 0.2, 0.2)


def test_an_objective_that_sells_labels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formulas, "spent", lambda level, ratio: level)
    with pytest.raises(ValidationError, match=r"earns more under level 0\.1 than under 0\.2"):
        Objective()
    with pytest.raises(ValidationError, match="earns more under level"):
        Objective(kappa=0.5, slope=0.5)
    assert Objective(kind="length_penalty").kind == "length_penalty", "it promises nothing"


@pytest.mark.parametrize(
    "old",
    [
        {"kappa": 0.5, "slope": 0.5},
        {"kind": "chrpo", "ctrl": False},
        {"kind": "chrpo", "mode": True, "ctrl": True, "beta": 0.5, "kappa": 0.2, "slope": 0.25,
         "calibration": 0.1, "tolerance": 0.1, "repetition": 0.2, "ngram": 8,
         "length_weight": 0.2, "level_weight": 0.2, "scale": "none", "control_weight": None},
    ],
)  # fmt: skip
def test_older_configurations_mean_what_they_meant(old: dict[str, object]) -> None:
    objective = Objective.model_validate(old)
    assert objective.kind == "chrpo_capped"
    whole = Objective.model_validate(objective.model_dump())
    assert whole == objective
    config = ChrpoConfig.model_validate(
        {"input": "x", "model": "m", "out": "o", "objective": old, "given_share": 0.5}
    )
    assert not config.stratified
    # This version's own, written whole and read again, stays what it is.
    assert Objective.model_validate(OURS.model_dump()) == OURS and OURS.kind == "chrpo"


@given(levels, levels, levels, capped)
def test_a_smaller_correct_level_earns_at_most_kappa_more(
    c: float, d: float, needed: float, objective: Objective
) -> None:
    small, large = sorted((c, d))
    gain = (
        reward(right(small), needed, objective).main - reward(right(large), needed, objective).main
    )
    assert gain + 1e-12 >= 0.0 and gain <= objective.kappa + 1e-12


def test_kappa_is_reached_and_not_passed() -> None:
    """Across the whole range of levels, at the most favourable r*."""
    gains = [
        reward(right(c), needed, PAPER).main - reward(right(d), needed, PAPER).main
        for c, d, needed in product(LEVELS, LEVELS, LEVELS)
    ]
    assert max(gains) == pytest.approx(PAPER.kappa)


@given(levels, levels, levels)
def test_wrong_below_what_is_needed_costs_the_more_the_further(
    c: float, d: float, needed: float
) -> None:
    low, high = sorted((c, d))
    at_low, at_high = reward(wrong(low), needed, PAPER), reward(wrong(high), needed, PAPER)
    # Raising the level never hurts a wrong answer, and helps one below r*.
    assert at_low.main <= at_high.main and at_low.ctrl <= at_high.ctrl
    if low < high and low < needed:
        assert at_low.main < at_high.main and at_low.ctrl < at_high.ctrl
    if low >= needed:
        assert at_low.main == 0.0
    # lambda_under > lambda_over: below r* is worse than as far above.
    if low < needed:
        assert reward(wrong(low), needed, PAPER).main < reward(wrong(1.0), needed, PAPER).main


@given(levels, levels, levels, ratios, shares, st.booleans())
def test_nothing_valid_is_worth_less_than_no_reply(
    c: float, d: float, needed: float, ratio: float, repeated: float, correct: bool
) -> None:
    for objective in (PAPER, OURS, Objective(price=1.0)):
        made = reward(Result(c, True, correct, ratio, repeated), needed, objective)
        nothing = reward(invalid(d), needed, objective)
        assert made.main > nothing.main and made.ctrl >= nothing.ctrl
    made = reward(Result(c, True, correct, ratio, repeated), needed, PAPER)
    nothing = reward(invalid(d), needed, PAPER)
    assert nothing == Reward(main=-1.0, ctrl=-1.0, invalid=-1.0)
    assert made.main > nothing.main and made.ctrl >= nothing.ctrl


def test_counter_example_a_long_correct_reply_and_a_short_wrong_one() -> None:
    """An earlier version gave -0.30 to the first and +0.20 to the second (r* = 0.2)."""
    for objective, main in ((OURS, 0.9), (PAPER, 0.8)):
        long_and_right = reward(right(0.2, ratio=1.0), 0.2, objective)
        short_and_wrong = reward(wrong(0.2, ratio=0.2), 0.2, objective)
        assert long_and_right.main == pytest.approx(main)
        assert short_and_wrong.main == 0.0


def test_without_mode_the_level_counts_for_nothing_in_the_main_reward() -> None:
    objective = Objective(mode=False)
    assert objective.kind == "chrpo_capped"
    assert reward(right(0.2), 1.0, objective).main == reward(right(1.0), 0.2, objective).main
    assert reward(wrong(0.2), 1.0, objective).main == reward(wrong(1.0), 0.2, objective).main == 0.0
    # The level token's own reward is still there.
    assert reward(wrong(0.2), 1.0, objective).ctrl == pytest.approx(-1.0)


def test_the_length_penalty_is_what_it_says() -> None:
    objective = Objective(kind="length_penalty", length_weight=0.2)
    assert reward(right(0.4, ratio=0.5), 1.0, objective).main == pytest.approx(0.9)
    # What CHRPO avoids: here a wrong answer gains by being shorter.
    assert (
        reward(wrong(0.4, 0.1), 1.0, objective).main > reward(wrong(0.4, 1.0), 1.0, objective).main
    )
    assert reward(right(0.4), 1.0, objective).ctrl == 0.0


def test_degrpo_prefers_the_smaller_correct_level() -> None:
    objective = Objective(kind="degrpo", level_weight=0.2, control_weight=0.01)
    assert reward(right(0.2, ratio=7.0), 1.0, objective).main == pytest.approx(0.96)
    assert reward(right(1.0), 0.2, objective).main == pytest.approx(0.8)
    assert reward(wrong(1.0), 0.2, objective).main == -1.0


@given(st.floats(-50, 50))
def test_huber_is_square_near_zero_and_straight_beyond(x: float) -> None:
    assert huber(x) == huber(-x) >= 0
    assert huber(x) == pytest.approx(0.5 * x * x if abs(x) <= 1 else abs(x) - 0.5)


@given(ratios, levels)
def test_calibration_is_best_at_the_promised_length(ratio: float, level: float) -> None:
    assert -0.1 <= calibration(ratio, level, PAPER) <= calibration(level, level, PAPER) == 0.1
    # The published tolerance: within 0.1 of the level it is worth at least half.
    if abs(ratio - level) <= 0.1:
        assert calibration(ratio, level, PAPER) >= 0.05 - 1e-12


@given(levels, levels)
def test_mode_is_symmetric_about_what_is_needed(level: float, needed: float) -> None:
    assert mode(level, needed, PAPER) == pytest.approx(-mode(needed, level, PAPER))


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(2, 5))
def test_repetition_is_a_share(ids: list[int], ngram: int) -> None:
    assert 0.0 <= repeated_share(ids, ngram) < 1.0
    if len(set(ids)) == len(ids):
        assert repeated_share(ids, ngram) == 0.0


def test_a_loop_is_nearly_all_repetition() -> None:
    assert repeated_share([5, 6, 7] * 40, 8) > 0.95


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"calibration": 0.5, "repetition": 0.5}, "no more than a wrong one"),
        ({"kappa": 0.4, "calibration": 0.5, "repetition": 0.3}, "no more than a wrong one"),
        ({"price": 0.5, "price_most": 0.4}, r"price 0\.5: want at most price_most, 0\.4"),
        ({"price": 1.5}, "price"),
        ({"slack": -0.1}, "slack"),
        ({"against": "everything"}, "against"),
        ({"beta": 0.6}, "beta"),
        ({"kind": "degrpo"}, "control_weight"),
        ({"kind": "grpo"}, "kind"),
        ({"kapa": 0.1}, "kapa"),
    ],
)
def test_settings_that_break_a_promise_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Objective.model_validate(values)
