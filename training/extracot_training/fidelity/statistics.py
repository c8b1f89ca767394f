"""Means with bootstrap intervals, and paired differences. Resampling is over problems' rows, the
same ones for both sides of a difference. Pure numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


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
    picks = np.random.default_rng(seed).integers(0, len(array), (resamples, len(array)))
    low, high = np.percentile(array[picks].mean(axis=1), [2.5, 97.5])
    return Estimate(float(array.mean()), float(low), float(high), len(array))


def paired(
    ours: Sequence[float], theirs: Sequence[float], *, resamples: int, seed: int
) -> Estimate:
    """Mean of ``ours - theirs``, row by row."""
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    return estimate(differences, resamples=resamples, seed=seed)


def normalised(part: float, empty: float, full: float) -> float | None:
    """``(part - empty) / (full - empty)``; ``None`` where the trace helps nobody."""
    return (part - empty) / (full - empty) if full > empty else None
