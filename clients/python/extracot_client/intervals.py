"""Intervals of 95 % for what sweeps measure: shares, means, and differences of pairs.

Several replies to one problem are alike, so problems are what is drawn: each is one group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from extracot_client.sweeps import wilson

Z = 1.959963984540054  # two-sided 95 %


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval."""

    mean: float
    low: float
    high: float


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


def mean_of(values: Sequence[float]) -> Estimate | None:
    """The mean with its normal interval; ``None`` of nothing. One value has no width to tell."""
    if not values:
        return None
    mean = fmean(values)
    half = Z * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Estimate(mean, mean - half, mean + half)


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
