"""Advantages: hand-computed values, and that the rewards' promises survive in them."""

from __future__ import annotations

import doctest
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from extracot_training.config.objective import Objective
from extracot_training.stages.chrpo import advantage as module
from extracot_training.stages.chrpo.advantage import (
    Advantage,
    batch_advantages,
    control_weights,
    group_advantages,
    group_relative,
    token_row,
)
from extracot_training.stages.chrpo.reward import Result, reward

LEVELS = (0.2, 0.4, 0.6, 0.8, 1.0)
PAPER = Objective(kind="chrpo_capped")
BETA = PAPER.beta

results = st.builds(
    Result,
    level=st.sampled_from(LEVELS),
    valid=st.booleans(),
    correct=st.booleans(),
    ratio=st.floats(0, 5),
    repeated=st.floats(0, 1),
)
groups = st.lists(results, min_size=2, max_size=10)
needs = st.sampled_from(LEVELS)
scales = st.sampled_from(["none", "group"])


def advantages_of(group: list[Result], needed: float, scale: str = "none") -> list[Advantage]:
    earned = [reward(result, needed, PAPER) for result in group]
    return group_advantages(
        [one.main for one in earned],
        [one.ctrl for one in earned],
        beta=BETA,
        scale=scale,  # type: ignore[arg-type]
    )


def test_the_worked_values_hold() -> None:
    outcome = doctest.testmod(module)
    assert outcome.attempted >= 6 and outcome.failed == 0


def test_a_group_by_hand() -> None:
    """r* = 0.6: right at 0.4, right at 1.0, wrong at 0.2, no reply."""
    group = [
        Result(0.4, True, True, 0.4),  # main 1.15, ctrl 0.05
        Result(1.0, True, True, 1.0),  # main 1.00, ctrl -0.10
        Result(0.2, True, False, 0.2),  # main -0.40, ctrl -0.60
        Result(None, False, False, 0.0),  # main -1.00, ctrl -1.00
    ]
    # Means: main 0.1875, ctrl -0.4125.
    expected = [
        (0.9625 + 0.5 * 0.4625, 0.9625),
        (0.8125 + 0.5 * 0.3125, 0.8125),
        (-0.5875 + 0.5 * -0.1875, -0.5875),
        (-1.1875 + 0.5 * -0.5875, -1.1875),
    ]
    for found, (level, rest) in zip(advantages_of(group, 0.6), expected, strict=True):
        assert found.level == pytest.approx(level)
        assert found.rest == pytest.approx(rest)


def test_counter_example_four_right_at_the_top_and_four_wrong_below() -> None:
    """In an earlier version the two advantages cancelled on the level token (r* = 1.0)."""
    group = [Result(1.0, True, True, 1.0)] * 4 + [Result(0.2, True, False, 0.2)] * 4
    found = advantages_of(group, 1.0)
    # main 1.1 and -0.8, ctrl 0 and -1.0: 0.95 + 0.5 * 0.5
    assert [one.level for one in found] == pytest.approx([1.2] * 4 + [-1.2] * 4)
    assert [one.rest for one in found] == pytest.approx([0.95] * 4 + [-0.95] * 4)


@given(st.floats(-3, 3), st.integers(1, 9), scales)
def test_a_constant_group_teaches_nothing(value: float, size: int, scale: str) -> None:
    assert group_relative([value] * size, scale) == [0.0] * size  # type: ignore[arg-type]


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=12), scales)
def test_advantages_are_finite_and_add_up_to_nothing(rewards: list[float], scale: str) -> None:
    found = group_relative(rewards, scale)  # type: ignore[arg-type]
    assert all(map(math.isfinite, found))
    assert math.fsum(found) == pytest.approx(0.0, abs=1e-6)


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=12))
def test_scaled_by_the_group_their_deviation_is_one(rewards: list[float]) -> None:
    assume(max(rewards) - min(rewards) > 1e-3)
    found = group_relative(rewards, "group")
    assert math.fsum(x * x for x in found) / (len(found) - 1) == pytest.approx(1.0)


@given(groups, needs, scales)
def test_right_outranks_wrong_outranks_nothing(
    group: list[Result], needed: float, scale: str
) -> None:
    def rank(result: Result) -> int:
        return 0 if not result.valid else 1 + result.correct

    found = advantages_of(group, needed, scale)
    for one, of_one in zip(group, found, strict=True):
        for other, of_other in zip(group, found, strict=True):
            if rank(one) > rank(other):
                assert of_one.rest > of_other.rest
                assert of_one.level > of_other.level


@given(groups, needs, scales, st.data())
def test_a_wrong_answer_gains_nothing_by_its_length(
    group: list[Result], needed: float, scale: str, data: st.DataObject
) -> None:
    """Whatever the others did, another length of a wrong reply changes no advantage at all."""
    level = data.draw(st.sampled_from(LEVELS))
    first, second = (
        Result(level, True, False, data.draw(st.floats(0, 5)), data.draw(st.floats(0, 1)))
        for _ in range(2)
    )
    assert advantages_of([first, *group], needed, scale) == advantages_of(
        [second, *group], needed, scale
    )


@given(groups, needs, scales, st.sampled_from(LEVELS), st.sampled_from(LEVELS))
def test_raising_the_level_never_hurts_a_wrong_answer(
    group: list[Result], needed: float, scale: str, c: float, d: float
) -> None:
    low, high = sorted((c, d))
    before = advantages_of([Result(low, True, False, low), *group], needed, scale)[0]
    after = advantages_of([Result(high, True, False, high), *group], needed, scale)[0]
    assert after.rest >= before.rest - 1e-9 and after.level >= before.level - 1e-9


@given(groups, needs, st.sampled_from(LEVELS), st.sampled_from(LEVELS))
def test_within_a_group_the_cap_holds_and_being_wrong_too_low_costs(
    group: list[Result], needed: float, c: float, d: float
) -> None:
    low, high = sorted((c, d))
    pair = [Result(level, True, True, level) for level in (low, high)]
    of_low, of_high = advantages_of([*pair, *group], needed)[:2]
    assert -1e-9 <= of_low.rest - of_high.rest <= PAPER.kappa + 1e-9
    assert of_low.level - of_high.level <= (1 + BETA) * PAPER.kappa + 1e-9
    pair = [Result(level, True, False, level) for level in (low, high)]
    of_low, of_high = advantages_of([*pair, *group], needed)[:2]
    below = max(needed - low, 0.0) - max(needed - high, 0.0)
    assert of_high.rest - of_low.rest == pytest.approx(below)
    assert of_high.level - of_low.level == pytest.approx((1 + BETA) * below)


def test_groups_are_told_apart() -> None:
    found = batch_advantages([1.0, 0.0, 5.0, 5.0], [0.0] * 4, group=2, beta=0.5)
    assert [one.rest for one in found] == [0.5, -0.5, 0.0, 0.0]
    with pytest.raises(ValueError, match="groups of 3"):
        batch_advantages([1.0, 0.0], [0.0, 0.0], group=3, beta=0.5)
    with pytest.raises(ValueError):
        batch_advantages([1.0, 0.0], [0.0], group=2, beta=0.5)


def test_without_ctrl_the_level_token_is_like_the_others() -> None:
    found = group_advantages([1.0, 0.0], [0.0, -1.0], beta=0.0)
    assert found == [Advantage(0.5, 0.5), Advantage(-0.5, -0.5)]


def test_the_level_token_is_the_first_and_there_may_be_none() -> None:
    assert token_row(Advantage(3.0, 1.0), 3, has_level=True) == [3.0, 1.0, 1.0]
    assert token_row(Advantage(3.0, 1.0), 3, has_level=False) == [1.0, 1.0, 1.0]
    assert token_row(Advantage(3.0, 1.0), 0, has_level=True) == []


@given(st.lists(st.integers(2, 40), min_size=1, max_size=8), st.floats(0.001, 2), st.data())
def test_weights_make_the_decoupled_loss_of_a_mean_over_tokens(
    lengths: list[int], alpha: float, data: st.DataObject
) -> None:
    losses = [data.draw(st.lists(st.floats(-2, 2), min_size=n, max_size=n)) for n in lengths]
    tokens, rollouts = sum(lengths), len(lengths)
    weighted = sum(
        weight * loss
        for row in losses
        for weight, loss in zip(
            control_weights(len(row), alpha=alpha, tokens=tokens, rollouts=rollouts),
            row,
            strict=True,
        )
    )
    decoupled = sum(alpha * row[0] + sum(row[1:]) / len(row[1:]) for row in losses) / rollouts
    assert weighted / tokens == pytest.approx(decoupled)


def test_a_reply_of_one_token_has_one_weight() -> None:
    assert control_weights(1, alpha=0.5, tokens=40, rollouts=8) == [2.5]
