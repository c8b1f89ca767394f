"""A budget against mixtures of equal cost: the mixture, its interval, and how often that covers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from extracot_training.evaluation.mixtures import Mixture, Side, mixed_difference, mixture_of
from extracot_training.pipeline.statistics import Estimate, paired


def flat(cost: int, right: float = 0.0) -> Side:
    return Side([right, right], [cost, cost])


def holding_the_share(ours: Side, levels: list[Side], **bootstrap: int) -> Estimate:
    """The interval as it was: the sample's share, whatever problems are drawn."""
    mix = mixture_of(ours, levels)
    lower, upper = (np.asarray(levels[at].right) for at in (mix.lower, mix.upper))
    mixed = (1 - mix.share) * lower + mix.share * upper
    return paired(ours.right, mixed.tolist(), **bootstrap)


@pytest.mark.parametrize(
    ("cost", "levels", "mix"),
    [
        (15, (10, 20), Mixture(0, 1, 0.5)),
        (15, (20, 10), Mixture(1, 0, 0.5)),
        (17, (10, 30, 20), Mixture(0, 2, 0.7)),
        (25, (10, 30, 20), Mixture(2, 1, 0.5)),
        # Outside the levels' range the nearest alone, and so at a level's very cost.
        (5, (10, 20), Mixture(0, 0, 0.0)),
        (25, (10, 20), Mixture(1, 1, 0.0)),
        (20, (10, 20, 30), Mixture(1, 1, 0.0)),
        (15, (10,), Mixture(0, 0, 0.0)),
        # Of equal costs there is no share.
        (10, (10, 10), Mixture(0, 0, 0.0)),
        (5, (10, 10), Mixture(0, 0, 0.0)),
        (15, (10, 10), Mixture(1, 1, 0.0)),
        (15, (10, 10, 20), Mixture(1, 2, 0.5)),
        (0, (0, 0), Mixture(0, 0, 0.0)),
    ],
)
def test_the_mixture_of_equal_cost(cost: int, levels: tuple[int, ...], mix: Mixture) -> None:
    assert mixture_of(flat(cost), [flat(level) for level in levels]) == mix
    found = mixed_difference(
        flat(cost, 1.0), [flat(level, level / 100) for level in levels], resamples=100, seed=0
    )
    share = (1 - mix.share) * levels[mix.lower] + mix.share * levels[mix.upper]
    assert found.mean == found.low == found.high == pytest.approx(1 - share / 100)
    assert found.n == 2


def test_one_level_is_paired_on_the_same_resamples() -> None:
    rng = np.random.default_rng(5)
    ours, level = (
        Side(rng.random(30).tolist(), rng.integers(1, 99, 30).tolist()) for _ in range(2)
    )
    found = mixed_difference(ours, [level], resamples=300, seed=7)
    old = paired(ours.right, level.right, resamples=300, seed=7)
    assert (found.mean, found.low, found.high) == pytest.approx((old.mean, old.low, old.high))


def test_one_problem_has_an_interval_of_no_width() -> None:
    levels = [Side([0.0], [10]), Side([1.0], [20])]
    found = mixed_difference(Side([1.0], [14]), levels, resamples=100, seed=0)
    assert found == Estimate(found.mean, found.mean, found.mean, 1)
    assert found.mean == pytest.approx(0.6)


def test_what_follows_from_tokens_alone_differs_in_no_resample() -> None:
    # Right as often as tokens say, at every budget: at equal cost nothing can differ.
    rng = np.random.default_rng(3)
    tokens = [rng.integers(low, 10 * low, 60) for low in (30, 20, 50)]
    ours, *levels = (Side((one / 1000).tolist(), one.tolist()) for one in tokens)
    found = mixed_difference(ours, levels, resamples=300, seed=0)
    assert (found.mean, found.low, found.high) == pytest.approx((0, 0, 0), abs=1e-12)
    held = holding_the_share(ours, levels, resamples=300, seed=0)
    assert held.mean == pytest.approx(0) and held.high - held.low > 0.03


def test_resamples_without_the_only_problem_that_tells_costs_apart_are_defined() -> None:
    # In about 1/e of the resamples both levels cost the same, and as much as ours.
    ours = Side([1.0] * 8, [10] * 7 + [20])
    levels = [Side([0.0] * 8, [10] * 8), Side([0.5] * 8, [10] * 7 + [30])]
    found = mixed_difference(ours, levels, resamples=400, seed=0)
    assert found.mean == pytest.approx(0.75)
    assert (found.low, found.high) == pytest.approx((0.75, 1.0))


def worlds(problems: int, of: int) -> list[tuple[Side, list[Side]]]:
    """Lognormal lengths, and a budget that is a coin between two levels, with draws of its own: the
    true difference at equal cost is 0."""
    rng = np.random.default_rng(problems)

    def level(spend: float, right: float) -> tuple[Any, Any]:
        tokens = np.exp(spend + rng.normal(0, 1, problems)).astype(int) + 1
        return (rng.random(problems) < right).astype(float), tokens

    made = []
    for _ in range(of):
        low, high, own_low, own_high = (level(*at) for at in 2 * [(3.0, 0.3), (4.5, 0.9)])
        upper = rng.random(problems) < 0.5
        right, tokens = (
            np.where(upper, dear, cheap) for cheap, dear in zip(own_low, own_high, strict=True)
        )
        made.append(
            (
                Side(right.tolist(), tokens.tolist()),
                [Side(one.tolist(), cost.tolist()) for one, cost in (low, high)],
            )
        )
    return made


@pytest.mark.parametrize("problems", [40, 200])
def test_the_interval_covers_the_truth_as_often_as_it_says(problems: int) -> None:
    ways = (mixed_difference, holding_the_share)
    covered = np.array(
        [
            [
                (found := way(*world, resamples=200, seed=number)).low <= 0 <= found.high
                for way in ways
            ]
            for number, world in enumerate(worlds(problems, 400))
        ]
    ).mean(axis=0)
    assert 0.91 <= covered[0] <= 0.98
    assert covered[1] < 0.85, "these worlds would not show the fault"


def test_samples_of_a_problem_are_drawn_together() -> None:
    # Twice the samples of every problem, all alike, add no certainty.
    ours, levels = worlds(40, 1)[0]
    once = mixed_difference(ours, levels, resamples=200, seed=0)
    twice = [replace(one, tokens=[2 * t for t in one.tokens]) for one in (ours, *levels)]
    assert mixed_difference(twice[0], twice[1:], resamples=200, seed=0) == once
