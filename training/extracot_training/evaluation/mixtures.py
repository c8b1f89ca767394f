"""One budget held against mixtures of others that cost as much. Pure numbers.

A mixture sends a share of the requests to the dearer of two levels, so that both sides generate as
many tokens in the mean. That share follows from mean tokens, which are measured on the same
problems: with other problems it would be another one. Intervals that hold it fixed are wrong, most
often too narrow (with lognormal lengths 0.72 to 0.93 of them held the truth, and 0.93 to 0.95 of
these here), so each resample of problems works it out anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from extracot_training.pipeline.statistics import Estimate, resampled


@dataclass(frozen=True, slots=True)
class Side:
    """A budget on the common problems, in their order; both shapes ``(problems,)``.

    ``right`` is the share of a problem's samples that are right, ``tokens`` those of all its
    samples together, whole numbers: every side of a comparison has as many samples per problem, so
    shares of cost are the same, and sums are exact.
    """

    right: Sequence[float]
    tokens: Sequence[int]

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.right))


@dataclass(frozen=True, slots=True)
class Mixture:
    """Places of the two levels and the ``share`` of requests that ``upper``, the dearer, gets.
    One level alone is both, with share 0."""

    lower: int
    upper: int
    share: float


def mixture_of(ours: Side, levels: Sequence[Side]) -> Mixture:
    """The two neighbours in cost between which ``ours`` lies, at the share that costs as much.

    A level that costs just as much is alone, the first of several; so is the cheapest where all
    are dearer than ``ours``, and the dearest where all are cheaper. One level is needed.
    """
    costs = np.array([[sum(level.tokens) for level in levels]], dtype=float)
    lower, upper, share = _neighbours(np.array([sum(ours.tokens)], dtype=float), costs)
    return Mixture(int(lower[0]), int(upper[0]), float(share[0]))


def mixed_difference(ours: Side, levels: Sequence[Side], *, resamples: int, seed: int) -> Estimate:
    """Accuracy of ``ours`` minus that of :func:`mixture_of` the levels, paired.

    The 95% interval is of percentiles over resamples of problems, the same ones as those of
    :func:`~extracot_training.pipeline.statistics.paired`, all samples of a problem together. In
    each, means of tokens and the mixture are found anew by the same rule, which covers what has no
    share: levels of equal cost, and ``ours`` beyond them. So the interval is of a difference at
    equal cost. Which levels are offered is not drawn again. Of one problem it has no width.

    Two levels cost 10 and 30 and the budget 15, so that the dearer gets a quarter of the requests:

    >>> ours = Side([1.0, 0.0], [10, 20])
    >>> levels = [Side([0.0, 0.0], [10, 10]), Side([1.0, 1.0], [30, 30])]
    >>> mixed_difference(ours, levels, resamples=200, seed=0).mean
    0.25
    """
    sides, n = (ours, *levels), len(ours.right)
    whole = np.arange(n)[None, :]
    (mean,), drawn = (
        _differences(sides, picks) for picks in (whole, resampled(n, resamples, seed))
    )
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(float(mean), float(low), float(high), n)


def _differences(sides: Sequence[Side], picks: Any) -> Any:
    """The first side minus the mixture of the others on the picked problems: ``picks`` has shape
    ``(resamples, problems)``, the result ``(resamples,)``."""
    own, *costs = (np.asarray(side.tokens, dtype=float)[picks].sum(axis=1) for side in sides)
    right, *theirs = (np.asarray(side.right, dtype=float)[picks].mean(axis=1) for side in sides)
    lower, upper, share = _neighbours(own, np.stack(costs, axis=1))
    rows, accuracy = np.arange(len(picks)), np.stack(theirs, axis=1)
    return right - (1 - share) * accuracy[rows, lower] - share * accuracy[rows, upper]


def _neighbours(own: Any, costs: Any) -> tuple[Any, Any, Any]:
    """``lower``, ``upper`` and ``share`` of :class:`Mixture`, each of shape ``(rows,)``, for
    ``own`` of shape ``(rows,)`` and ``costs`` of shape ``(rows, levels)``."""
    rows, order = np.arange(len(own)), np.argsort(costs, axis=1, kind="stable")
    ordered = np.take_along_axis(costs, order, axis=1)
    at = np.minimum((ordered < own[:, None]).sum(axis=1), costs.shape[1] - 1)
    # At an end, or at a level's very cost, one level is both; else they differ in cost.
    below = np.where(own < ordered[rows, at], np.maximum(at - 1, 0), at)
    gap = ordered[rows, at] - ordered[rows, below]
    share = (own - ordered[rows, below]) / np.where(gap > 0, gap, 1.0)
    return order[rows, below], order[rows, at], np.where(gap > 0, share, 0.0)
