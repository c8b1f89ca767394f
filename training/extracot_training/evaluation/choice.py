"""What the choice of a level is worth: `auto` against all that fixed levels can do, and how much it
depends on the problem. Pure numbers, from the tables of an evaluation.

Users buy tokens, all that are generated. So `auto` is held against every fixed level, and against
every mixture of two (a coin that sends a share of the requests to the second) that generates as
many tokens in the mean. A choice that depends on nothing is such a mixture and no better than the
best of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

from extracot_training.evaluation.rows import EvalRow
from extracot_training.evaluation.table import AUTO, Table, levels_of
from extracot_training.pipeline.settings import BootstrapSettings
from extracot_training.pipeline.statistics import entropy, paired


def against_every(tables: Mapping[str, Table], config: BootstrapSettings) -> dict[str, Any] | None:
    """``auto`` against each fixed level and each mixture of two with its mean total tokens.

    ``opponents`` have ``name``, ``tokens`` (total, per reply), ``accuracy`` and ``difference``
    (auto minus it: mean, low, high, n; paired bootstrap over problems at the mixture's weights);
    ``hardest`` is the mixture, or level of no greater cost, with the highest accuracy. ``None``
    without fixed levels on common problems.
    """
    names = [name for name in levels_of(tables) if tables[name].rows]
    common = tables[AUTO].common(*map(tables.__getitem__, names)) if AUTO in tables else []
    if not names or not common:
        return None
    cost = {name: tables[name].mean_total(common) for name in (*names, AUTO)}
    right = {name: [tables[name].accuracy(one) for one in common] for name in (*names, AUTO)}

    def opponent(name: str, tokens: float, accuracy: Sequence[float]) -> dict[str, Any]:
        difference = paired(right[AUTO], accuracy, **config.bootstrap)
        mean = math.fsum(accuracy) / len(accuracy)
        return {"name": name, "tokens": tokens, "accuracy": mean, "difference": asdict(difference)}

    levels = [opponent(name, cost[name], right[name]) for name in names]
    mixes = []
    for one, other in combinations(sorted(names, key=cost.__getitem__), 2):
        if not cost[one] <= cost[AUTO] <= cost[other] or cost[one] == cost[other]:
            continue
        share = (cost[AUTO] - cost[one]) / (cost[other] - cost[one])
        mixed = [(1 - share) * a + share * b
                 for a, b in zip(right[one], right[other], strict=True)]  # fmt: skip
        mixes.append(opponent(f"{one} and {other} ({share:.0%})", cost[AUTO], mixed))
    fair = [*mixes, *(one for one in levels if one["tokens"] <= cost[AUTO] + 1e-9)]
    return {
        "n": len(common),
        "tokens": cost[AUTO],
        "accuracy": math.fsum(right[AUTO]) / len(common),
        "levels": levels,
        "mixes": mixes,
        "hardest": max(fair, key=lambda one: one["accuracy"], default=None),
    }


def information(
    rows: Sequence[EvalRow], needs: Mapping[str, Callable[[EvalRow], object]]
) -> dict[str, Any]:
    """Of the levels that were chosen, in nats: ``entropy``, and for each of ``needs`` (name -> what
    a row's problem needs, ``None`` if unknown) the ``mutual`` information between the two.

    ``by_chance`` is about what independent choices would show over as many replies,
    ``(levels - 1)(needs - 1) / 2n``; ``most`` is the entropy of the needs, which mutual information
    cannot exceed.
    """
    chosen = [row for row in rows if row.level is not None]
    found: dict[str, Any] = {"n": len(chosen), "entropy": entropy([row.level for row in chosen])}
    for name, need in needs.items():
        pairs = [(row.level, value) for row in chosen if (value := need(row)) is not None]
        levels, values = [level for level, _ in pairs], [value for _, value in pairs]
        if len(set(values)) < 2:
            continue
        found[name] = {
            "n": len(pairs),
            "mutual": max(0.0, entropy(levels) + entropy(values) - entropy(pairs)),
            "by_chance": (len(set(levels)) - 1) * (len(set(values)) - 1) / (2 * len(pairs)),
            "most": entropy(values),
        }
    return found
