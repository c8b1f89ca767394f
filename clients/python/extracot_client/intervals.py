"""Intervals of 95 % for what sweeps measure: shares, means, and differences of pairs.

Several replies to one problem are alike, so problems are what is drawn: each is one group. An
interval has a width: where nothing was seen of how much values differ, there is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from extracot.student_t import student_quantile
from extracot_client.sweeps import wilson

Z = 1.959963984540054  # two-sided 95 %
# Student's t of 1 to 9 degrees of freedom, where the series in 1/df is too coarse.
_T = (12.70620, 4.30265, 3.18245, 2.77645, 2.57058, 2.44691, 2.36462, 2.30600, 2.26216)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class MeanEstimate:
    """A mean with its interval, which is ``None`` of one problem, or of values all alike."""

    mean: float
    low: float | None
    high: float | None


def share(groups: Sequence[Sequence[bool]]) -> Estimate | None:
    """The share of ``True``, by Wilson's interval; ``None`` of nothing.

    Where a problem has several replies their number is divided by the design effect (Kish 1965):
    how much more the problems' shares vary than those of as many independent replies would.

    >>> share([[True]] * 8 + [[False]] * 2)
    Estimate(mean=0.8, low=0.49016247153664183, high=0.9433178485456247)
    """
    groups = [group for group in groups if group]
    n = sum(map(len, groups))
    if not n:
        return None
    mean = sum(map(sum, groups)) / n
    effect = _design_effect(groups, mean, n)
    low, high = wilson(mean * n / effect, n / effect)
    return Estimate(mean, min(low, mean), max(high, mean))


def _design_effect(groups: Sequence[Sequence[bool]], mean: float, n: int) -> float:
    if n == len(groups) or len(groups) < 2 or not 0 < mean < 1:
        return n / len(groups) if n > len(groups) else 1.0
    residuals = sum((sum(group) - mean * len(group)) ** 2 for group in groups)
    variance = residuals * len(groups) / (len(groups) - 1) / n**2
    return max(1.0, variance / (mean * (1 - mean) / n))


def mean_of(groups: Iterable[Sequence[float]], *, least: float = -math.inf) -> MeanEstimate | None:
    """The mean of all values, none of which can be below ``least``; ``None`` of nothing.

    Its interval is Student's t over the problems: the variance is that of a ratio of sums, each
    problem's values a cluster (Cochran 1977, 6.4), with a degree of freedom less than problems.

    >>> found = mean_of([[4.0], [6.0], [8.0]])
    >>> found.mean, round(found.low, 2), round(found.high, 2)
    (6.0, 1.03, 10.97)
    >>> mean_of([[5.0]]), mean_of([[5.0], [5.0]]).low
    (MeanEstimate(mean=5.0, low=None, high=None), None)
    """
    groups = [group for group in groups if group]
    n = sum(map(len, groups))
    if not n:
        return None
    mean = math.fsum(value for group in groups for value in group) / n
    spread = math.sqrt(math.fsum((math.fsum(group) - mean * len(group)) ** 2 for group in groups))
    if len(groups) < 2 or spread <= 1e-9 * max(1.0, abs(mean) * n):
        return MeanEstimate(mean, None, None)
    half = student(len(groups) - 1) * spread * math.sqrt(len(groups) / (len(groups) - 1)) / n
    return MeanEstimate(mean, max(least, mean - half), mean + half)


def student(df: int) -> float:
    """Student's t, two-sided at 95 %, for a whole number of degrees of freedom from 1 on.

    >>> [round(student(df), 3) for df in (1, 9, 10, 30, 10**6)]
    [12.706, 2.262, 2.228, 2.042, 1.96]
    """
    if df <= len(_T):
        return _T[df - 1]
    return student_quantile(0.975, df)


def by_chance(differences: Iterable[float]) -> float:
    """How likely at least as many positive differences are if either sign is as likely: the exact
    one-sided sign test (of single verdicts McNemar's). Differences of 0 say nothing.

    >>> by_chance([1, 1, 1, 0]), by_chance([]), by_chance([1] * 9 + [-1])
    (0.125, 1.0, 0.0107421875)
    """
    signs = [difference > 0 for difference in differences if difference]
    n, positive = len(signs), sum(signs)
    return sum(math.comb(n, k) for k in range(positive, n + 1)) / (1 << n)


def paired_shares(ours: Sequence[float], theirs: Sequence[float]) -> Estimate | None:
    """The difference of two shares over the same problems; ``None`` without any.

    One half is added to each cell of the table of pairs (Agresti and Min 2005), so that a handful
    of problems on which both agree is no proof that they always do.

    >>> found = paired_shares([1, 1, 1, 1], [1, 1, 1, 1])
    >>> found.mean, found.low < -0.3, found.high > 0.3
    (0.0, True, True)
    """
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    if not differences:
        return None
    n = len(differences) + 2
    centre = sum(differences) / n
    variance = (sum(d * d for d in differences) + 1) / n - centre**2
    half = Z * math.sqrt(variance / n)
    mean = fmean(differences)
    return Estimate(mean, max(-1.0, min(centre - half, mean)), min(1.0, max(centre + half, mean)))


def percentile(values: Sequence[float], share_below: float) -> float:
    """By linear interpolation between the nearest ranks; ``values`` are not empty.

    >>> percentile([1, 2, 3, 4, 5], 0.9)
    4.6
    """
    ordered = sorted(values)
    at = share_below * (len(ordered) - 1)
    below = math.floor(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])
