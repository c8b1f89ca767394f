"""What the rows of a sweep come to, per budget: accuracy, tokens, saving and time.

Pure arithmetic on rows. Ratios are ratios of sums over the problems both sides have.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from extracot.usage import ratio_of_sums
from extracot_client.sweeps import budget_key
from extracot_client.types import SweepRow

_WILSON_Z = 1.959963984540054  # two-sided 95 %


@dataclass(frozen=True, slots=True)
class BudgetSummary:
    """One budget of a sweep. Means are over the rows without error, times in seconds."""

    budget: str
    n: int
    errors: int
    graded: int
    correct: int
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    reasoning_tokens: float | None
    completion_tokens: float | None
    ratio_to_native: float | None
    """Reasoning tokens over those of the sweep's own ``native`` rows."""
    saved_tokens: float | None
    """Sum of the server's estimates, of the rows that have one."""
    saved_rows: int
    assumed_baselines: int
    total_seconds: float | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def wilson(correct: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927).

    >>> [round(bound, 3) for bound in wilson(8, 10)]
    [0.49, 0.943]
    """
    z2 = _WILSON_Z**2
    centre = (correct + z2 / 2) / (n + z2)
    spread = _WILSON_Z * math.sqrt(correct * (n - correct) / n + z2 / 4) / (n + z2)
    return max(0.0, centre - spread), min(1.0, centre + spread)


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the known values; ``None`` without any."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def summarise(rows: Iterable[SweepRow], budgets: Sequence[Any]) -> list[BudgetSummary]:
    """One summary per budget, in the order of ``budgets``."""
    groups: dict[str, list[SweepRow]] = {budget_key(budget): [] for budget in budgets}
    for row in rows:
        groups.setdefault(budget_key(row.budget), []).append(row)
    native = {
        row.problem_id: row.reasoning_tokens
        for row in groups.get("native", [])
        if row.error is None and row.reasoning_tokens is not None
    }
    return [_summary(name, group, native) for name, group in groups.items()]


def _summary(name: str, rows: list[SweepRow], native: dict[str, int]) -> BudgetSummary:
    good = [row for row in rows if row.error is None]
    graded = [row for row in good if row.correct is not None]
    correct = sum(row.correct is True for row in graded)
    low, high = wilson(correct, len(graded)) if graded else (None, None)
    pairs = [
        (row.reasoning_tokens, native[row.problem_id])
        for row in good
        if row.reasoning_tokens is not None and row.problem_id in native
    ]
    savings = [row.saved_tokens_estimate for row in good if row.saved_tokens_estimate is not None]
    return BudgetSummary(
        budget=name,
        n=len(rows),
        errors=len(rows) - len(good),
        graded=len(graded),
        correct=correct,
        accuracy=correct / len(graded) if graded else None,
        accuracy_low=low,
        accuracy_high=high,
        reasoning_tokens=mean(row.reasoning_tokens for row in good),
        completion_tokens=mean(row.completion_tokens for row in good),
        ratio_to_native=ratio_of_sums([own for own, _ in pairs], [full for _, full in pairs]),
        saved_tokens=sum(savings) if savings else None,
        saved_rows=len(savings),
        assumed_baselines=sum(row.baseline_source == "assumed" for row in good),
        total_seconds=mean(row.total for row in good),
    )
