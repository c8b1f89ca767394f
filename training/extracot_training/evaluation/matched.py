"""Auto against fixed levels of equal cost: what choosing is worth. Pure.

A policy that spends fewer tokens is compared with what the fixed levels reach for the same tokens:
with the best one that costs no more, and with a mix of the two levels around its mean cost (a coin
that sends a share of requests to the upper one), which is the fair opponent between two levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from extracot_training.config.evaluate import EvaluateConfig
from extracot_training.evaluation.table import AUTO, Table, levels_of
from extracot_training.pipeline.statistics import paired


@dataclass(frozen=True, slots=True)
class Fixed:
    """A fixed level on the common problems: mean reasoning tokens, accuracy by problem."""

    name: str
    tokens: float
    accuracy: tuple[float, ...]

    @property
    def mean(self) -> float:
        return sum(self.accuracy) / len(self.accuracy)


def against_fixed(tables: Mapping[str, Table], config: EvaluateConfig) -> dict[str, Any] | None:
    """Differences auto minus fixed, paired; ``None`` without fixed levels on common problems.

    ``best`` is ``None`` where every fixed level costs more than auto.
    """
    names = [name for name in levels_of(tables) if tables[name].rows]
    common = tables[AUTO].common(*map(tables.__getitem__, names))
    if not names or not common:
        return None
    auto = _fixed(AUTO, tables[AUTO], common)
    levels = sorted((_fixed(n, tables[n], common) for n in names), key=lambda level: level.tokens)
    affordable = [level for level in levels if level.tokens <= auto.tokens]
    best = max(affordable, key=lambda level: (level.mean, -level.tokens), default=None)
    lower, upper, weight = around(levels, auto.tokens)
    mixed = [
        (1 - weight) * low + weight * high
        for low, high in zip(lower.accuracy, upper.accuracy, strict=True)
    ]

    def difference(theirs: Sequence[float]) -> dict[str, Any]:
        return asdict(paired(auto.accuracy, theirs, **config.bootstrap))

    return {
        "n": len(common),
        "tokens": auto.tokens,
        "accuracy": auto.mean,
        "best": best
        and {
            "budget": best.name,
            "tokens": best.tokens,
            "accuracy": best.mean,
            "difference": difference(best.accuracy),
        },
        "mix": {
            "lower": lower.name,
            "upper": upper.name,
            "share_of_upper": weight,
            "tokens": (1 - weight) * lower.tokens + weight * upper.tokens,
            "accuracy": sum(mixed) / len(mixed),
            "difference": difference(mixed),
        },
    }


def around(levels: Sequence[Fixed], tokens: float) -> tuple[Fixed, Fixed, float]:
    """The two neighbours in cost around ``tokens`` (``levels`` ascend) and the upper one's share.

    Outside their range: the cheapest or the dearest alone.
    """
    for lower, upper in pairwise(levels):
        if lower.tokens <= tokens <= upper.tokens and lower.tokens < upper.tokens:
            return lower, upper, (tokens - lower.tokens) / (upper.tokens - lower.tokens)
    end = levels[0] if tokens < levels[0].tokens else levels[-1]
    return end, end, 0.0


def _fixed(name: str, table: Table, problems: Sequence[str]) -> Fixed:
    return Fixed(name, table.mean_reasoning(problems), tuple(map(table.accuracy, problems)))
