"""The arithmetic of ratios and savings on token counts.

A baseline of ``None`` (unknown) or of nothing to compare with gives ``None``, never 0, so that
"not known" is never added up as "saved nothing".
"""

from __future__ import annotations

from collections.abc import Sequence


def realised_ratio(reasoning: int, baseline: float | None) -> float | None:
    """Reasoning tokens over the baseline; ``None`` without a positive baseline.

    >>> realised_ratio(60, 200.0)
    0.3
    """
    return None if baseline is None or baseline <= 0 else reasoning / baseline


def saved_tokens(reasoning: int, baseline: float | None) -> float | None:
    """Baseline minus reasoning tokens: negative when more was spent; ``None`` if unknown."""
    return None if baseline is None else baseline - reasoning


def split_saving(saved: float | None) -> tuple[float, float]:
    """A saving as ``(saved, overspent)``, both 0 or more, for counters that can only grow.

    >>> split_saving(-12.5)
    (0.0, 12.5)
    """
    if saved is None:
        return 0.0, 0.0
    return max(saved, 0.0), max(-saved, 0.0)


def ratio_of_sums(reasoning: Sequence[int], full: Sequence[int]) -> float | None:
    """Sum of reasoning tokens over the sum at level 1.0: a level's realised ratio.

    Raises ``ValueError`` if the lengths differ; ``None`` if there is nothing to divide by.

    >>> ratio_of_sums([10, 90], [100, 100])
    0.5
    """
    _check_pairs(reasoning, full)
    total = sum(full)
    return sum(reasoning) / total if total > 0 else None


def mean_of_ratios(reasoning: Sequence[int], full: Sequence[int]) -> float | None:
    """Mean of the per-problem ratios: short problems weigh as much as long ones.

    Pairs whose full count is 0 have no ratio and are left out. Raises ``ValueError`` if the
    lengths differ.

    >>> mean_of_ratios([10, 90], [100, 300])
    0.2
    """
    _check_pairs(reasoning, full)
    ratios = [part / whole for part, whole in zip(reasoning, full, strict=True) if whole > 0]
    return sum(ratios) / len(ratios) if ratios else None


def _check_pairs(reasoning: Sequence[int], full: Sequence[int]) -> None:
    if len(reasoning) != len(full):
        raise ValueError(f"{len(reasoning)} counts against {len(full)}: they go in pairs")
