"""A measured saving: a random share of budgeted requests runs natively, and the means are compared.

A card's baseline is an average of other problems; this one is of the very traffic. What may be held
out is decided before the draw and both arms count only that, so that they differ by chance
and by the budget, by nothing else. Pure but for its random numbers; one instance a model.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from time import time

from extracot.card import BudgetCard
from extracot.student_t import student_quantile
from extracot.usage import split_saving
from extracot_server.budget.resolve import (
    BudgetKind,
    BudgetPolicy,
    BudgetSources,
    ResolvedBudget,
    resolve_budget,
)
from extracot_server.budget.values import BudgetSpec

CONFIDENCE = 0.95
MIN_FOR_INTERVAL = 10
"""Completed requests in each arm before an interval is given."""
MIN_FOR_BASELINE = 30
"""Completed held-out requests before their mean is cap mode's baseline."""


class Arm(StrEnum):
    """The sides of the comparison with native reasoning, and of that with an operator's ceiling."""

    BUDGETED = "budgeted"
    HOLDOUT = "holdout"
    BELOW_CEILING = "below_ceiling"
    CEILING = "ceiling"


class Excluded(StrEnum):
    """Why a request with a budget has no part in any comparison."""

    CEILING = "ceiling"
    LIMIT = "limit"
    NONE = "none"


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


def why_not(resolved: ResolvedBudget, policy: BudgetPolicy) -> Excluded | None:
    """What keeps a request with a budget from running natively; ``None``: nothing.

    A hard limit of the client's, a wish for no reasoning at all, or a ceiling of the operator's
    that native reasoning could exceed.
    """
    if resolved.kind is BudgetKind.NATIVE and resolved.max_reasoning_tokens is None:
        return None
    tokens = policy.reasoning_tokens_ceiling
    if resolved.kind is BudgetKind.NONE and tokens != 0:
        return Excluded.NONE
    if resolved.hard or (resolved.max_reasoning_tokens is not None and tokens is None):
        return Excluded.LIMIT
    capped = policy.ceiling is not None and policy.ceiling < 1
    return Excluded.CEILING if capped or tokens is not None else None


def at_ceiling(
    resolved: ResolvedBudget, card: BudgetCard | None, policy: BudgetPolicy
) -> ResolvedBudget:
    """The same request, run at the operator's ceiling, which is the most that it may ask for."""
    spec = BudgetSpec(target=policy.ceiling, grace=resolved.grace)
    highest = resolve_budget(BudgetSources(budget=spec), card, policy)
    return replace(highest, source=resolved.source, requested=resolved.requested)


def _below_ceiling(resolved: ResolvedBudget, card: BudgetCard | None, policy: BudgetPolicy) -> bool:
    """Whether running at the ceiling in ratio would differ, and breaks no promise in tokens."""
    if policy.ceiling is None or policy.ceiling >= 1 or resolved.max_reasoning_tokens is not None:
        return False
    if resolved.kind is BudgetKind.AUTO:
        return len(resolved.allowed) > 1
    highest = at_ceiling(resolved, card, policy)
    if highest.level is not None:
        return resolved.level != highest.level
    return (resolved.applied_ratio or 0.0) < policy.ceiling


def held_out(resolved: ResolvedBudget) -> ResolvedBudget:
    """The same request, run natively; what was requested stays in its report."""
    return replace(resolved, kind=BudgetKind.NATIVE, applied_ratio=None, level=None, allowed=())


@dataclass(slots=True)
class Holdout:
    """Draws the arm of each request and keeps what came of it, since ``since`` (Unix seconds).

    ``with_ceiling``: requests that an operator's ceiling keeps from running natively are compared
    with others at that ceiling, in arms of their own.
    """

    fraction: float = 0.0
    seed: int | None = None
    with_ceiling: bool = False
    since: int = field(default_factory=lambda: int(time()))
    arms: dict[Arm, Moments] = field(default_factory=lambda: {arm: Moments() for arm in Arm})
    totals: dict[Arm, Moments] = field(default_factory=lambda: {arm: Moments() for arm in Arm})
    """As ``arms``, of reasoning and answer tokens together."""
    left_out: Counter[Arm] = field(default_factory=Counter)
    excluded: Counter[Excluded] = field(default_factory=Counter)
    claims: Claims = field(default_factory=Claims)
    _random: random.Random = field(init=False, repr=False)
    _changes: dict[str, float] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def exclusion(
        self, resolved: ResolvedBudget, card: BudgetCard | None, policy: BudgetPolicy
    ) -> Excluded | None:
        """Why a request has no part in any comparison; ``None``: it may have, or has no budget."""
        reason = why_not(resolved, policy) if self.fraction else None
        if reason is Excluded.CEILING and self.with_ceiling:
            return None if _below_ceiling(resolved, card, policy) else reason
        return reason

    def draw(self, resolved: ResolvedBudget, policy: BudgetPolicy) -> Arm | None:
        """The arm of a request that is not excluded; ``None`` where no budget applies."""
        if not self.fraction or resolved.kind is BudgetKind.NATIVE:
            return None
        drawn = self._random.random() < self.fraction
        if why_not(resolved, policy) is not None:
            return Arm.CEILING if drawn else Arm.BELOW_CEILING
        return Arm.HOLDOUT if drawn else Arm.BUDGETED

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
            return self._changed({f"{arm} left_out": 1})
        self.arms[arm].add(reasoning)
        self.totals[arm].add(total)
        changed = {"n": 1, "sum": reasoning, "squares": reasoning**2}
        changed |= {"total_sum": total, "total_squares": total**2}
        self._changed({f"{arm} {part}": amount for part, amount in changed.items()})
        if arm in (Arm.CEILING, Arm.BELOW_CEILING):
            return None
        for saving in claimed:
            saved, overspent = split_saving(saving)
            self.claims.replies += 1
            self.claims.saved += saved
            self.claims.overspent += overspent
            self._changed({"replies": 1, "saved": saved, "overspent": overspent})
        return None

    def exclude(self, reason: Excluded) -> None:
        """Count a request that has no part in it."""
        self.excluded[reason] += 1
        self._changed({f"excluded {reason}": 1})

    def changes(self) -> dict[str, float]:
        """What has been counted since the last call, as sums by name, to be added up elsewhere."""
        changes, self._changes = self._changes, {}
        return changes

    def restore(self, sums: Mapping[str, float]) -> None:
        """Go on from what earlier processes have counted: sums of their :meth:`changes`."""
        began = [int(name.partition(" ")[2]) for name in sums if name.startswith("since ")]
        if began:
            self.since = min(began)
        else:
            self._changed({f"since {self.since}": 1})

        def count(name: str) -> float:
            return sums.get(name, 0.0)

        for arm in Arm:
            n = count(f"{arm} n")
            self.arms[arm] = Moments.of(n, count(f"{arm} sum"), count(f"{arm} squares"))
            total, squares = count(f"{arm} total_sum"), count(f"{arm} total_squares")
            self.totals[arm] = Moments.of(n, total, squares)
            self.left_out[arm] = int(count(f"{arm} left_out"))
        for reason in Excluded:
            self.excluded[reason] = int(count(f"excluded {reason}"))
        self.claims = Claims(int(count("replies")), count("saved"), count("overspent"))

    def _changed(self, more: Mapping[str, float]) -> None:
        for name, amount in more.items():
            self._changes[name] = self._changes.get(name, 0.0) + amount

    @property
    def shown(self) -> dict[Arm, Moments]:
        """The arms that can have requests."""
        pair = (Arm.BUDGETED, Arm.HOLDOUT)
        return {arm: found for arm, found in self.arms.items() if self.with_ceiling or arm in pair}

    @property
    def saving(self) -> Saving | None:
        """What :func:`saving_between` the arms makes of them so far."""
        return saving_between(self.arms[Arm.HOLDOUT], self.arms[Arm.BUDGETED])

    @property
    def saving_to_ceiling(self) -> Saving | None:
        """The same of the requests that a ceiling holds, against others at that ceiling."""
        return saving_between(self.arms[Arm.CEILING], self.arms[Arm.BELOW_CEILING])

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
