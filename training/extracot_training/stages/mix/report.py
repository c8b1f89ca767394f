"""Figures and report of a mixture: rows by kind and level, lengths, realised ratios."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from extracot.usage import ratio_of_sums
from extracot_training.config.mix import MixConfig
from extracot_training.pipeline.markdown import counts, number, table
from extracot_training.pipeline.statistics import quantiles
from extracot_training.policy.mixed_rows import MixedRow

LENGTH_BINS = 10


def figures_of(
    rows: Sequence[MixedRow], over_cutoff: Mapping[str, int], unfit: Mapping[str, int]
) -> dict[str, Any]:
    """``groups`` has an entry per (kind, level); ratios are against the whole traces. ``unfit``
    counts rows that do not fit their level, by kind, level and reason."""
    groups: dict[str, list[MixedRow]] = {}
    for row in sorted(rows, key=lambda row: (row.kind, row.level or 0.0)):
        name = row.kind if row.level is None else f"{row.kind} {row.level:g}"
        groups.setdefault(name, []).append(row)
    lengths = [row.length for row in rows]
    return {
        "rows": len(rows),
        "tokens": sum(lengths),
        "reply_tokens": sum(len(row.reply_ids) for row in rows),
        "over_cutoff": dict(over_cutoff),
        "unfit": dict(sorted(unfit.items())),
        "kinds": dict(Counter(row.kind for row in rows)),
        "policy_repeated": sum(row.kind == "policy" and row.copy_number > 0 for row in rows),
        "groups": {name: _group(own) for name, own in groups.items()},
        "lengths": quantiles(lengths, median="p50"),
        "length_histogram": _histogram(lengths),
    }


def _group(rows: Sequence[MixedRow]) -> dict[str, Any]:
    reasoning = [row.reasoning_tokens for row in rows]
    ratio = ratio_of_sums(reasoning, [row.full_tokens for row in rows])
    realised = [row.realised for row in rows if row.realised is not None]
    by_row = quantiles(realised, median="p50")
    return {
        "n": len(rows),
        "reasoning_tokens": round(sum(reasoning) / len(rows), 2),
        "length": round(sum(row.length for row in rows) / len(rows), 2),
        "realised": None if ratio is None else round(ratio, 4),
        "realised_by_row": {name: round(by_row[name], 4) for name in by_row if name != "max"},
    }


def _histogram(lengths: Sequence[int]) -> list[dict[str, int]]:
    """Counts in ranges of equal width; ``to`` is not in the range."""
    width = max(1, -(-(max(lengths) + 1) // LENGTH_BINS))
    counts = Counter(length // width for length in lengths)
    return [
        {"from": n * width, "to": (n + 1) * width, "rows": counts[n]}
        for n in range(max(counts) + 1)
    ]


def report_of(figures: Mapping[str, Any], config: MixConfig) -> str:
    """The report as Markdown."""
    left_out = sum(figures["over_cutoff"].values())
    if config.policy.share and config.reference is not None:
        policy = f"Policy targets are measured (r* of stage `reference`, {config.policy.needed})."
    elif config.policy.share:
        policy = "Policy targets are apportioned, not measured."
    else:
        policy = "There are no policy rows."
    if again := figures["policy_repeated"]:
        policy += (
            f" {again} of {figures['kinds']['policy']} policy rows are copies: fewer traces have a "
            "level than policy.share asks for; measure more problems, or set policy.share lower."
        )
    rows = []
    for name, group in figures["groups"].items():
        spread = " | ".join(number(group["realised_by_row"].get(q)) for q in ("p10", "p50", "p90"))
        rows.append(
            f"{name} | {group['n']} | {group['reasoning_tokens']:.1f} | "
            f"{number(group['realised'])} | {spread} | {group['length']:.1f}"
        )
    unfit = "; ".join(f"{name} {count}" for name, count in figures["unfit"].items())
    bins = [f"{b['from']}–{b['to'] - 1} | {b['rows']}" for b in figures["length_histogram"]]
    lines = [
        "# The mixture",
        "",
        f"{figures['rows']} rows, {figures['tokens']} tokens, {figures['reply_tokens']} of them "
        f"in replies. {left_out} rows over {config.cutoff} tokens were left out. {policy}",
        *([f"Left out because they do not fit their level: {unfit}."] if unfit else []),
        *([f"Traces left out: {counts(without)}."] if (without := figures.get("without")) else []),
        f"Tokens are those of `{config.model}`; ratios are against the whole traces.",
        "",
        *table("rows of | n | reasoning tokens | realised (sums) | p10 | p50 | p90 | length", rows),
        "",
        *table("tokens | rows", bins),
    ]
    return "\n".join([*lines, ""])
