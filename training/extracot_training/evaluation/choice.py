"""What the choice of a level is worth: `auto` against all that fixed levels can do, and how much it
depends on the problem. Pure numbers, from the tables of an evaluation.

Users buy tokens, all that are generated. So `auto` is held against every fixed level, and against
every mixture of two (a coin that sends a share of the requests to the second) that generates as
many tokens in the mean. A choice that depends on nothing is such a mixture and no better than the
best of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

from extracot_training.evaluation.mixtures import Side, mixed_difference, mixture_of
from extracot_training.evaluation.rows import EvalRow
from extracot_training.evaluation.table import AUTO, Table, levels_of
from extracot_training.pipeline.settings import BootstrapSettings
from extracot_training.pipeline.statistics import entropy


def against_every(tables: Mapping[str, Table], config: BootstrapSettings) -> dict[str, Any] | None:
    """``auto`` against each fixed level and each mixture of two with its mean total tokens.

    ``levels`` and ``mixes`` have ``name``, ``tokens`` (total, per reply), ``accuracy`` and
    ``difference`` (auto minus it: mean, low, high, n; bootstrap over problems, which works out a
    mixture's share anew in each resample); ``hardest`` is the mixture, or level of no greater cost,
    with the highest accuracy, chosen once from the whole sample. ``None`` without fixed levels on
    common problems.
    """
    names = [name for name in levels_of(tables) if tables[name].rows]
    common = tables[AUTO].common(*map(tables.__getitem__, names)) if AUTO in tables else []
    if not names or not common:
        return None
    cost = {name: tables[name].mean_total(common) for name in (*names, AUTO)}
    sides = {name: _side(tables[name], common, Table.total) for name in (*names, AUTO)}

    def opponent(label: str, *of: str) -> dict[str, Any]:
        found = _opponent(sides[AUTO], [sides[name] for name in of], config)
        tokens = cost[of[0]] if len(of) == 1 else cost[AUTO]
        return {"name": label, "tokens": tokens, **found}

    levels = [opponent(name, name) for name in names]
    mixes = []
    for one, other in combinations(sorted(names, key=cost.__getitem__), 2):
        if not cost[one] <= cost[AUTO] <= cost[other] or cost[one] == cost[other]:
            continue
        share = (cost[AUTO] - cost[one]) / (cost[other] - cost[one])
        mixes.append(opponent(f"{one} and {other} ({share:.0%})", one, other))
    fair = [*mixes, *(one for one in levels if one["tokens"] <= cost[AUTO] + 1e-9)]
    return {
        "n": len(common),
        "tokens": cost[AUTO],
        "accuracy": sides[AUTO].accuracy,
        "levels": levels,
        "mixes": mixes,
        "hardest": max(fair, key=lambda one: one["accuracy"], default=None),
    }


def against_fixed(tables: Mapping[str, Table], config: BootstrapSettings) -> dict[str, Any] | None:
    """Auto against fixed levels of equal reasoning: what choosing is worth. Differences auto minus
    fixed, paired; ``None`` without fixed levels on common problems.

    A policy that spends fewer tokens is compared with what the fixed levels reach for the same
    tokens: with the best one that costs no more, and with a mix of the two levels around its mean
    cost (a coin that sends a share of requests to the upper one), which is the fair opponent
    between two levels. ``best`` is chosen once from the whole sample, and ``None`` where every
    fixed level costs more than auto; the mix, levels and share, is found anew in each resample.
    """
    names = [name for name in levels_of(tables) if tables[name].rows]
    common = tables[AUTO].common(*map(tables.__getitem__, names))
    if not names or not common:
        return None
    cost = {name: tables[name].mean_reasoning(common) for name in (*names, AUTO)}
    names.sort(key=cost.__getitem__)
    auto, *levels = (_side(tables[name], common, Table.reasoning) for name in (AUTO, *names))
    affordable = [at for at, name in enumerate(names) if cost[name] <= cost[AUTO]]
    best = max(affordable, key=lambda at: (levels[at].accuracy, -at), default=None)
    mix = mixture_of(auto, levels)
    lower, upper = names[mix.lower], names[mix.upper]
    return {
        "n": len(common),
        "tokens": cost[AUTO],
        "accuracy": auto.accuracy,
        "best": None
        if best is None
        else {
            "budget": names[best],
            "tokens": cost[names[best]],
            **_opponent(auto, [levels[best]], config),
        },
        "mix": {
            "lower": lower,
            "upper": upper,
            "share_of_upper": mix.share,
            "tokens": (1 - mix.share) * cost[lower] + mix.share * cost[upper],
            **_opponent(auto, levels, config),
        },
    }


def _opponent(auto: Side, levels: Sequence[Side], config: BootstrapSettings) -> dict[str, Any]:
    """``accuracy`` of the mixture of the levels that costs as much as auto, and ``difference``:
    auto minus it. One level is its own mixture, whatever it costs."""
    mix = mixture_of(auto, levels)
    lower, upper = levels[mix.lower].accuracy, levels[mix.upper].accuracy
    return {
        "accuracy": (1 - mix.share) * lower + mix.share * upper,
        "difference": asdict(mixed_difference(auto, levels, **config.bootstrap)),
    }


def _side(table: Table, problems: Sequence[str], tokens: Callable[[Table, str], int]) -> Side:
    return Side(
        right=[table.accuracy(one) for one in problems],
        tokens=[tokens(table, one) for one in problems],
    )


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
