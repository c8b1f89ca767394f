"""A measured saving: a random share of budgeted requests runs natively, and the means are compared.

A card's baseline is an average of other problems; this one is of the very traffic. What may be held
out is decided before the draw and both arms count only that, so that they differ by chance
and by the budget, by nothing else. Pure but for its random numbers; one instance a model.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from enum import StrEnum
from statistics import NormalDist
from time import time

from extracot.usage import split_saving
from extracot_server.budget.resolve import BudgetKind, BudgetPolicy, ResolvedBudget

CONFIDENCE = 0.95
MIN_FOR_INTERVAL = 10
"""Completed requests in each arm before an interval is given."""
MIN_FOR_BASELINE = 30
"""Completed held-out requests before their mean is cap mode's baseline."""


class Arm(StrEnum):
    """The two sides of the comparison."""

    BUDGETED = "budgeted"
    HOLDOUT = "holdout"


@dataclass(slots=True)
class Moments:
    """Mean and variance of a stream of numbers, by Welford's recurrence (1962).

    >>> moments = Moments()
    >>> for value in (1.0, 2.0, 6.0): moments.add(value)
    >>> (moments.n, moments.mean, moments.variance)
    (3, 3.0, 7.0)
    """

    n: int = 0
    mean: float = 0.0
    _squares: float = 0.0

    def add(self, value: float) -> None:
        """Take in one number."""
        self.n += 1
        delta = value - self.mean
        self.mean += delta / self.n
        self._squares += delta * (value - self.mean)

    @classmethod
    def of(cls, n: float, total: float, squares: float) -> Moments:
        """From a count, a sum and a sum of squares, as counters have them.

        >>> Moments.of(3, 9.0, 41.0) == Moments(3, 3.0, 14.0)
        True
        """
        if n < 1:
            return cls()
        return cls(int(n), total / n, max(squares - total**2 / n, 0.0))

    @property
    def variance(self) -> float:
        """Sample variance; 0.0 of fewer than two numbers."""
        return self._squares / (self.n - 1) if self.n > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Saving:
    """Tokens saved a reply: an estimate and its interval at :data:`CONFIDENCE`."""

    mean: float
    low: float
    high: float


@dataclass(slots=True)
class Claims:
    """What the same completed budgeted requests save against their baselines, by its parts.

    ``saved`` alone overstates the saving: it keeps the replies that happened to be short and drops
    those that were long. ``saved - overspent`` does not, if the baseline is right.
    """

    replies: int = 0
    saved: float = 0.0
    overspent: float = 0.0


def may_be_held_out(resolved: ResolvedBudget, policy: BudgetPolicy) -> bool:
    """Whether a request may run natively instead: no limit was promised.

    Not if the client set a hard limit or asked for no reasoning at all, nor if the operator has a
    ceiling that native reasoning could exceed.
    """
    shortened = resolved.kind in (BudgetKind.LEVEL, BudgetKind.AUTO, BudgetKind.CAP)
    limited = resolved.hard or resolved.max_reasoning_tokens is not None
    ceiling = policy.ceiling is not None and policy.ceiling < 1
    return shortened and not limited and not ceiling


def held_out(resolved: ResolvedBudget) -> ResolvedBudget:
    """The same request, run natively; what was requested stays in its report."""
    return replace(resolved, kind=BudgetKind.NATIVE, applied_ratio=None, level=None, allowed=())


@dataclass(slots=True)
class Holdout:
    """Draws the arm of each request and keeps what came of it, since ``since`` (Unix seconds)."""

    fraction: float = 0.0
    seed: int | None = None
    since: int = field(default_factory=lambda: int(time()))
    arms: dict[Arm, Moments] = field(default_factory=lambda: {arm: Moments() for arm in Arm})
    totals: dict[Arm, Moments] = field(default_factory=lambda: {arm: Moments() for arm in Arm})
    """As ``arms``, of reasoning and answer tokens together."""
    left_out: Counter[Arm] = field(default_factory=Counter)
    claims: Claims = field(default_factory=Claims)
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def draw(self, resolved: ResolvedBudget, policy: BudgetPolicy) -> Arm | None:
        """The arm of a request; ``None`` if it has no part in the comparison."""
        if not self.fraction or not may_be_held_out(resolved, policy):
            return None
        return Arm.HOLDOUT if self._random.random() < self.fraction else Arm.BUDGETED

    def record(
        self, arm: Arm, reasoning: float, total: float, claimed: list[float], *, complete: bool
    ) -> None:
        """Take in one request: mean reasoning and mean reasoning and answer tokens a reply, and how
        much reasoning each reply claims to save.

        An incomplete one is only counted, by arm: many more in one arm than in the other would mean
        that the completed ones are no longer alike.
        """
        if not complete:
            self.left_out[arm] += 1
            return
        self.arms[arm].add(reasoning)
        self.totals[arm].add(total)
        for saving in claimed:
            saved, overspent = split_saving(saving)
            self.claims.replies += 1
            self.claims.saved += saved
            self.claims.overspent += overspent

    @property
    def saving(self) -> Saving | None:
        """What :func:`saving_between` the arms makes of them so far."""
        return saving_between(self.arms[Arm.HOLDOUT], self.arms[Arm.BUDGETED])

    @property
    def total_saving(self) -> Saving | None:
        """The same of reasoning and answer tokens together."""
        return saving_between(self.totals[Arm.HOLDOUT], self.totals[Arm.BUDGETED])

    @property
    def baseline_total(self) -> float | None:
        """Mean native reasoning and answer tokens, where there is a :attr:`baseline`."""
        return None if self.baseline is None else self.totals[Arm.HOLDOUT].mean

    @property
    def baseline(self) -> float | None:
        """Mean native reasoning tokens of this traffic, once there are enough to rely on."""
        native = self.arms[Arm.HOLDOUT]
        return native.mean if native.n >= MIN_FOR_BASELINE and native.mean > 0 else None


def saving_between(native: Moments, budgeted: Moments) -> Saving | None:
    """Mean(native) - mean(budgeted), with Welch's interval; ``None`` while there is too little.

    B. L. Welch, "The generalization of 'Student's' problem", Biometrika 34 (1947).
    """
    if min(native.n, budgeted.n) < MIN_FOR_INTERVAL:
        return None
    mean = native.mean - budgeted.mean
    arms = (native, budgeted)
    error = sum(arm.variance / arm.n for arm in arms)
    if error == 0:
        return Saving(mean, mean, mean)
    spread = sum((arm.variance / arm.n) ** 2 / (arm.n - 1) for arm in arms)
    half = student_quantile(0.5 + CONFIDENCE / 2, error**2 / spread) * math.sqrt(error)
    return Saving(mean, mean - half, mean + half)


def student_quantile(probability: float, freedom: float) -> float:
    """Quantile of Student's t by the Cornish-Fisher expansion; within 0.002 from 4 degrees on.

    Abramowitz and Stegun, 26.7.5.

    >>> round(student_quantile(0.975, 9), 3)
    2.262
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))
