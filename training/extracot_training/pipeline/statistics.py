"""Means and ratios with bootstrap intervals, and paired differences. Resampling is over problems'
rows, the same ones for both sides of a difference or a ratio. Pure numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95% percentile bootstrap interval over ``n`` rows."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def estimate(values: Sequence[float], *, resamples: int, seed: int) -> Estimate:
    """Mean of ``values``; at least one is needed."""
    array = np.asarray(values, dtype=float)
    low, high = np.percentile(
        array[resampled(len(array), resamples, seed)].mean(axis=1), [2.5, 97.5]
    )
    return Estimate(float(array.mean()), float(low), float(high), len(array))


def paired(
    ours: Sequence[float], theirs: Sequence[float], *, resamples: int, seed: int
) -> Estimate:
    """Mean of ``ours - theirs``, row by row."""
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    return estimate(differences, resamples=resamples, seed=seed)


def ratio_estimate(
    parts: Sequence[float], wholes: Sequence[float], *, resamples: int, seed: int
) -> Estimate | None:
    """``sum(parts) / sum(wholes)`` with its interval; ``None`` if the wholes add up to nothing.

    Resamples whose wholes add up to 0 have no ratio and are left out of the interval.
    """
    top, bottom = np.asarray(parts, dtype=float), np.asarray(wholes, dtype=float)
    if bottom.sum() <= 0:
        return None
    picks = resampled(len(top), resamples, seed)
    sums = bottom[picks].sum(axis=1)
    drawn = top[picks].sum(axis=1)[sums > 0] / sums[sums > 0]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(float(top.sum() / bottom.sum()), float(low), float(high), len(top))


def means_at(size: int, found: Iterable[tuple[int, float]], missing: float) -> list[float]:
    """Mean of the values found at each of ``size`` places; ``missing`` where there are none."""
    sums, counts = [0.0] * size, [0] * size
    for place, value in found:
        sums[place] += value
        counts[place] += 1
    return [total / count if count else missing for total, count in zip(sums, counts, strict=True)]


def entropy(choices: Sequence[object]) -> float:
    """Entropy in nats of how often each choice occurs; 0 for none.

    >>> round(entropy([0.2, 0.2, 1.0, 1.0]), 4), entropy([1, 1])
    (0.6931, 0.0)
    """
    shares = [number / len(choices) for number in Counter(choices).values()]
    return abs(math.fsum(share * math.log(share) for share in shares))


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of ``values`` lie, interpolated; one value is needed."""
    return float(np.percentile(np.asarray(values, dtype=float), 100 * share))


def normalised(part: float, empty: float, full: float) -> float | None:
    """``(part - empty) / (full - empty)``; ``None`` where the trace helps nobody."""
    return (part - empty) / (full - empty) if full > empty else None


def resampled(n: int, resamples: int, seed: int) -> Any:
    """Indices of the resampled rows, shape ``(resamples, n)``; the same for the same arguments."""
    return np.random.default_rng(seed).integers(0, n, (resamples, n))


def quantiles(values: Sequence[N], *, median: str = "median") -> dict[str, N]:
    """Median, 10th and 90th percentile (nearest rank) and the largest; empty for no values."""
    ordered = sorted(values)
    named = {"p10": 0.1, median: 0.5, "p90": 0.9, "max": 1.0} if values else {}
    return {name: ordered[round(share * (len(values) - 1))] for name, share in named.items()}
