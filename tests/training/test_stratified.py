"""Groups with every level, the price, and the bandit in which an objective is tried."""

from __future__ import annotations

import doctest
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from extracot_training.cli import main
from extracot_training.config.chrpo import ChrpoConfig
from extracot_training.config.objective import Objective
from extracot_training.pipeline.reference_rows import needed_level
from extracot_training.stages.chrpo import simulation, stratified
from extracot_training.stages.chrpo.advantage import choice_scale, group_advantages
from extracot_training.stages.chrpo.controller import GroupAccuracy, PriceController
from extracot_training.stages.chrpo.reward import Result, reward
from extracot_training.stages.chrpo.simulation import simulate
from extracot_training.stages.chrpo.stratified import (
    choice_advantages,
    planned_levels,
    rest_advantages,
)

values = st.floats(-1.0, 1.0)


def test_the_worked_values_hold() -> None:
    for module, least in ((stratified, 5), (simulation, 1)):
        outcome = doctest.testmod(module)
        assert outcome.attempted >= least and outcome.failed == 0


@given(st.integers(2, 12), st.integers(2, 6), st.integers(0, 30))
def test_every_level_is_in_every_group(group: int, levels: int, turn: int) -> None:
    if group < levels:
        with pytest.raises(ValueError, match="too few"):
            planned_levels(group, levels, turn)
        return
    found = planned_levels(group, levels, turn)
    counts = [found.count(level) for level in range(levels)]
    assert len(found) == group and min(counts) >= 1 and max(counts) - min(counts) <= 1
    # Over as many groups as there are levels, each is as often as the others.
    every = [one for at in range(levels) for one in planned_levels(group, levels, at)]
    assert len({every.count(level) for level in range(levels)}) == 1


@given(
    st.lists(st.floats(-3, 3), min_size=4, max_size=4),
    st.lists(values, min_size=7, max_size=7),
    st.floats(0.0, 0.1),
)
def test_the_level_tokens_have_the_exact_gradient_of_the_choice(
    logits: list[float], earned: list[float], entropy: float
) -> None:
    """The loss of the level tokens of a group, by autograd, against sum_c p(c) Q(c) - (1 - sum p) +
    entropy * H; one id of the vocabulary is no level."""
    arms = planned_levels(7, 3, 1)
    free = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    logs = torch.log_softmax(free, 0)
    shares = logs.exp()[:3].tolist()
    advantages = choice_advantages(arms, earned, shares, entropy=entropy)
    surrogate = sum(a * logs[arm] for a, arm in zip(advantages, arms, strict=True)) / 7
    (found,) = torch.autograd.grad(surrogate, free, retain_graph=True)

    p = logs.exp()[:3]
    q = torch.tensor([np.mean([v for v, arm in zip(earned, arms, strict=True) if arm == one])
                      for one in range(3)])  # fmt: skip
    own = p / p.sum()
    objective = (p * q).sum() - (1 - p.sum()) - entropy * (own * own.log()).sum()
    (expected,) = torch.autograd.grad(objective, free)
    assert torch.allclose(found, expected, atol=1e-9)


def test_a_level_that_nobody_chooses_still_has_a_gradient() -> None:
    """Where the policy draws, 8 replies at level 1.0 and none at 0.2 teach nothing of 0.2."""
    advantages = choice_advantages([0, 1], [1.0, 0.0], [1e-4, 1 - 1e-4])
    assert advantages[0] > 0
    # On logits: its probability times what it is better by.
    p = np.array([1e-4, 1 - 1e-4])
    step = sum(a * (np.eye(2)[arm] - p) for arm, a in enumerate(advantages)) / 2
    assert step[0] == pytest.approx(p[0] * p[1] * 1.0) and step[0] > 0


def test_baselines_are_of_the_same_level_and_without_the_reply_itself() -> None:
    """Level 0 is always right, level 1 never: no token learns from a level's being easy."""
    groups = [([0, 0, 1, 1], [1.0, 1.0, 0.0, 0.0])] * 3
    assert rest_advantages(groups) == [[0.0] * 4] * 3
    one, other = rest_advantages([([0, 0], [1.0, 0.0]), ([0, 0], [1.0, 1.0])])
    # 1 - (0 + mean of the other problem's, 1) / 2, and so on.
    assert one == [0.5, -1.0] and other == pytest.approx([1 - 1.5 / 2, 1 - 1.5 / 2])
    assert rest_advantages([([0, 1], [1.0, 0.0])]) == [[0.0, 0.0]], "nothing to compare with"


@given(st.lists(st.sampled_from([0.0, 1.05, 0.9]), min_size=4, max_size=4), st.integers(0, 3))
def test_a_baseline_does_not_depend_on_the_reply(rewards: list[float], at: int) -> None:
    groups = [([0, 0, 1, 1], rewards), ([0, 1, 0, 1], [1.0, 0.0, 0.0, 1.0])]
    before = rest_advantages(groups)[0][at]
    changed = [value + (number == at) for number, value in enumerate(rewards)]
    after = rest_advantages([(groups[0][0], changed), groups[1]])[0][at]
    assert after - before == pytest.approx(1.0)


def group(right: list[float], shares: list[float]) -> GroupAccuracy:
    return GroupAccuracy(right, [0.2, 1.0], shares)


def test_the_price_follows_the_constraint() -> None:
    control = PriceController(Objective(price=0.4, price_rate=0.5, slack=0.02))
    found = control.update([group([0.5, 1.0], [0.5, 0.5]), group([1.0, 1.0], [1.0, 0.0])])
    assert found["price"] == 0.4 and found["accuracy_choice"] == pytest.approx(0.875)
    assert found["accuracy_whole"] == 1.0 and found["spent_choice"] == pytest.approx(0.4)
    assert control.price == pytest.approx(0.4 + 0.5 * (-0.125 + 0.02)), "too many were wrong"
    for _ in range(200):
        control.update([group([1.0, 1.0], [1.0, 0.0])])
    assert control.price == 1.0, "never above price_most"
    for _ in range(200):
        control.update([group([0.0, 1.0], [1.0, 0.0])])
    assert control.price == 0.0
    again = PriceController(control.objective)
    again.load(json.loads(json.dumps(control.state())))
    assert again == control
    assert control.update([]) == {"price": 0.0}


def test_accuracy_may_be_held_against_the_best_level() -> None:
    control = PriceController(Objective(against="best"))
    first = control.update([group([1.0, 0.5], [1.0, 0.0])])
    assert first["accuracy_whole"] == 0.5, "none is known to be better yet"
    assert control.update([group([0.9, 0.5], [1.0, 0.0])])["accuracy_whole"] == 0.9


def config(**settings: Any) -> ChrpoConfig:
    known = {"input": "x", "model": "m", "out": "o", "prompts": 12, "group": 10, "steps": 120}
    return ChrpoConfig.model_validate(known | settings)


def test_kinds_that_need_different_levels_get_them() -> None:
    """0.2, 0.4 and 0.6: each its own level, nearly as right as at 1.0, where an equal-cost mix of
    fixed levels is right for three quarters."""
    found = simulate(config(simulation={"seeds": 2}))
    for need, of in zip((0.2, 0.4, 0.6), found["kinds"].values(), strict=True):
        assert of["level"] == pytest.approx(need, abs=0.08)
    assert found["accuracy"] > found["whole"] - 0.03
    assert found["accuracy"] > found["mix"] + 0.15


@pytest.mark.parametrize("accuracy", [0.93, 0.85])
def test_noise_alone_leads_to_the_smallest_level(accuracy: float) -> None:
    """Equal accuracy at every level: the earlier objective went to 1.0, for r* is mostly luck."""
    world = {"kinds": {"equal": {"right": [accuracy] * 5}}, "seeds": 2}
    found = simulate(config(simulation=world))
    assert found["level"] < 0.25 and found["price"] > 0.4


LEVELS = (0.2, 0.4, 0.6, 0.8, 1.0)


def pushed(objective: Objective, accuracy: float) -> list[float]:
    """Mean advantage of each level's token where all levels are as often right: r* unanimous in
    three replies a level, groups with two replies at each, as long as their level says."""
    rng = np.random.default_rng(1)
    arms, sums = planned_levels(10, 5, 0), np.zeros(5)
    for _ in range(2000):
        tried = {level: (rng.random(3) < accuracy).tolist() for level in LEVELS}
        needed = needed_level(tried).level
        right = (rng.random(10) < accuracy).tolist()
        earned = [
            reward(Result(LEVELS[arm], True, correct, LEVELS[arm]), needed, objective)
            for arm, correct in zip(arms, right, strict=True)
        ]
        found = group_advantages(
            [one.main for one in earned], [one.ctrl for one in earned], **choice_scale(objective)
        )
        np.add.at(sums, arms, [one.level for one in found])
    return [float(one) for one in sums / 4000]


@pytest.mark.parametrize(
    ("weights", "accuracy"),
    [({"kappa": 0.2, "slope": 0.25}, 0.73), ({"kappa": 0.5, "slope": 0.5}, 0.62)],
)
def test_counter_example_noise_pushed_the_earlier_objective_to_level_one(
    weights: dict[str, float], accuracy: float
) -> None:
    """-0.094 for 0.2 and +0.094 for 1.0, by half the distance between them: with the defaults
    where 0.73 of replies are right, with the weights by hand of `small` at 0.62. At 0.93 those
    weights outweigh it by far. The price prefers 0.2 by as much at any accuracy."""
    capped = Objective.model_validate({"kind": "chrpo_capped", **weights})
    before = pushed(capped, accuracy)
    assert before[0] < -0.07 and before[4] > 0.04
    assert (before[4] - before[0]) / 2 == pytest.approx(0.094, abs=0.02)
    often_right = pushed(capped, 0.93)
    assert often_right[0] > often_right[4] + 0.1
    for often in (accuracy, 0.93):
        now = pushed(Objective(price=0.4), often)
        assert now == sorted(now, reverse=True)
        assert (now[0] - now[4]) / 2 == pytest.approx(0.16, abs=0.02)


@pytest.mark.parametrize("start", [[1, 1e-4, 1e-4, 1e-4, 1e-4], [1e-4, 1e-4, 1e-4, 1e-4, 1]])
def test_no_collapse_is_final(start: list[float]) -> None:
    found = simulate(config(steps=200, simulation={"start": start, "seeds": 1}))
    for need, of in zip((0.2, 0.4, 0.6), found["kinds"].values(), strict=True):
        assert of["level"] == pytest.approx(need, abs=0.1)


def test_a_choice_that_draws_its_levels_stays_where_it_collapsed() -> None:
    """What stratified groups are for: the same objective without them."""
    found = simulate(
        config(
            groups="chosen", objective={"price_rate": 0},
            simulation={"start": [1, 1e-6, 1e-6, 1e-6, 1e-6], "seeds": 1},
        )
    )  # fmt: skip
    assert found["level"] < 0.25 and found["accuracy"] < 0.6


def test_accuracy_is_not_sold_below_the_slack() -> None:
    """A little more accuracy for every level: the price stops where the constraint binds."""
    world = {"kinds": {"slow": {"right": [0.5, 0.65, 0.8, 0.9, 0.95]}}, "seeds": 2}
    found = simulate(config(steps=300, simulation=world))
    assert found["accuracy"] > 0.95 - 0.06 and found["price"] < 0.6


def test_simulation_by_command(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["chrpo", "--simulate", "--set", "steps=30", "--set", "simulation.seeds=1"]
    assert main(flags) == 0
    text = capsys.readouterr().out
    assert "needs 0.4" in text and "best mix" in text
    assert main([*flags, "--json", "--config", "training/configs/chrpo-small.yaml"]) == 0
    assert math.isfinite(json.loads(capsys.readouterr().out)["level"])
    assert main([*flags, "--set", "simulation.kinds={a: {right: [0.5]}}"]) == 2
    error = capsys.readouterr().err
    assert "simulation" in error and "want 5, one per level" in error
    assert main([*flags, "--set", "group=4"]) == 2
    assert "'group': want at least 5, one rollout per level" in capsys.readouterr().err
    assert main([*flags, "--set", "group=4", "--set", "groups=chosen", "--set",
                 "objective.price_rate=0"]) == 0  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"groups": "stratified", "objective": {"kind": "length_penalty"}}, "groups: want chosen"),
        ({"groups": "chosen"}, "price_rate: want 0"),
        ({"simulation": {"levels": [0.4, 0.2, 1.0]}}, "want them increasing"),
        ({"simulation": {"start": [1.0]}}, "start: want 5"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**settings)
