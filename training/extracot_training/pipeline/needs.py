"""What problems need, estimated from few replies: r* with its uncertainty. Pure numbers.

Being right k times out of k is mostly luck: with accuracy 0.93 at every level and k = 3, the
smallest level from which on all replies are right is level 0.2 for a third of the problems and
level 1.0 for another third. So each problem is taken to have a *profile*: its accuracy at every
level, increasing (a level is not worse than a smaller one but by luck), with two jumps at most. How
frequent each profile is among the problems is fitted to all their counts by expectation
maximisation (the nonparametric maximum likelihood of a mixture: Kiefer and Wolfowitz 1956; the
steps are few, which keeps it smooth). Bayes' rule then shrinks every problem towards those that are
like it: where problems do not differ, its own few replies hardly count; where they do, they count.

r* is the smallest level whose accuracy is within ``delta`` of the best. Every profile has one, so a
problem's profiles give each level a probability to be r*; the likeliest is the estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations, pairwise
from typing import Any, NamedTuple

import numpy as np

# Accuracies that a profile may have; dense where most problems are.
ACCURACIES = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.86, 0.9, 0.93, 0.96, 0.985)
JUMPS = 2
STEPS = 50
# Problems at a time: bounds memory, changes nothing.
CHUNK = 2048
Array = Any


class Need(NamedTuple):
    """``level`` is r*; ``probabilities`` that each level is; ``accuracies`` at each, increasing:
    means over the problem's profiles."""

    level: float
    probabilities: tuple[float, ...]
    accuracies: tuple[float, ...]


def estimate_needs(
    levels: Sequence[float],
    right: Sequence[Sequence[float]],
    tried: Sequence[Sequence[float]],
    *,
    delta: float = 0.05,
) -> list[Need]:
    """One :class:`Need` per problem.

    ``right`` and ``tried`` are counts, shape (problems, levels by ascending level); they need not
    be whole. Raises ``ValueError`` where shapes do not fit, or more were right than tried.
    """
    good, all_ = np.asarray(right, dtype=float), np.asarray(tried, dtype=float)
    if good.shape != all_.shape or good.ndim != 2 or good.shape[1] != len(levels):
        raise ValueError(f"counts of shapes {good.shape} and {all_.shape} for {len(levels)} levels")
    if not ((good >= 0) & (good <= all_)).all():
        raise ValueError("want 0 <= right <= tried")
    if not len(good):
        return []
    # Problems with the same counts are worked out once.
    counts, place, copies = np.unique(
        np.concatenate([good, all_], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    profiles, weights = _profiles(len(levels))
    likelihood = np.concatenate(
        [_likelihood(counts[at : at + CHUNK], profiles) for at in range(0, len(counts), CHUNK)]
    )
    for _ in range(STEPS):
        weights = copies @ _posterior(likelihood, weights) / copies.sum()
    posterior = _posterior(likelihood, weights)
    needs = (profiles >= profiles[:, -1:] - delta - 1e-9).argmax(axis=1)
    shares = np.stack([posterior[:, needs == at].sum(axis=1) for at in range(len(levels))], axis=1)
    accuracies = posterior @ profiles
    found = [
        Need(levels[int(own.argmax())], tuple(map(float, own)), tuple(map(float, means)))
        for own, means in zip(shares, accuracies, strict=True)
    ]
    return [found[at] for at in place.ravel()]


@cache
def _profiles(levels: int) -> tuple[Array, Array]:
    """(profiles, shape (profiles, levels); their weights before any reply is seen).

    Flat profiles, those with one jump and those with two are as likely together; so what nobody
    measured is taken to be simple.
    """
    rows: list[list[float]] = []
    jumps: list[int] = []
    for number in range(min(JUMPS, levels - 1) + 1):
        for places in combinations(range(1, levels), number):
            ends = (0, *places, levels)
            for values in combinations(ACCURACIES, number + 1):
                widths = (stop - start for start, stop in pairwise(ends))
                rows.append(
                    [value for width, value in zip(widths, values, strict=True)
                     for _ in range(width)]
                )  # fmt: skip
                jumps.append(number)
    kinds = np.asarray(jumps)
    weights = 1.0 / np.bincount(kinds)[kinds]
    return np.asarray(rows), weights / weights.sum()


def _likelihood(counts: Array, profiles: Array) -> Array:
    """Of the counts (right, then tried, per row) under each profile, the largest of a row 1."""
    right, tried = np.split(counts, 2, axis=1)
    logs = right @ np.log(profiles).T + (tried - right) @ np.log1p(-profiles).T
    return np.exp(logs - logs.max(axis=1, keepdims=True)).astype(np.float32)


def _posterior(likelihood: Array, weights: Array) -> Array:
    found = likelihood * weights.astype(np.float32)
    return found / found.sum(axis=1, keepdims=True)
