"""Figures and Markdown of stage ``reference``. Knows rows, not how they were made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from extracot_training.config.reference import ReferenceConfig
from extracot_training.pipeline.markdown import interval, number, table
from extracot_training.pipeline.reference_rows import LevelAttempts, ReferenceRow
from extracot_training.pipeline.statistics import estimate, ratio_estimate


def figures_of(rows: Sequence[ReferenceRow], **bootstrap: int) -> dict[str, Any]:
    """All figures of ``rows`` (one is needed): over all of them, by split, steps, family and number
    of stories asked for.

    Intervals are bootstraps over problems (``resamples``, ``seed``); ``realised`` is a ratio of
    sums of reasoning tokens, those of blocks that were never closed counted in full.
    """
    by = ("split", "steps", "family", "asked", "r_star")
    return {"all": _group(rows, bootstrap)} | {f"by_{n}": _by(rows, n, bootstrap) for n in by}


def report_of(figures: dict[str, Any], config: ReferenceConfig) -> str:
    """The report in Markdown."""
    whole = figures["all"]
    lines = [
        "# Reference rollouts",
        "",
        f"{whole['problems']} problems, {config.k} replies per level at temperature "
        f"{config.drawing.temperature:g}, model `{config.model}`. Realised ratios are ratios of "
        "sums of reasoning tokens, with 95% bootstrap intervals over problems.",
        "",
        *_level_table(whole),
        "",
        f"L_ref: mean {number(whole['l_ref_mean'], 1)} tokens; {whole['without_l_ref']} problems "
        "have none (no closed reply at level 1.0). It counts everything but what an answer of the "
        f"problem needs, {number(whole['answer_need_mean'], 1)} tokens in the mean.",
        "",
        "## What problems need (r*)",
        "",
        "Estimated: the smallest level whose accuracy is within "
        f"{config.delta:g} of the best, by what all problems say together; `certainty` is the mean "
        "probability of that level, `expected` what the probabilities of all problems add up to. "
        "Unanimous: the smallest level such that it and all above it were right in every reply, "
        f"which is partly luck; {whole['unsolved']} problems have no such level and count as 1.0.",
        "",
        *_needs_table(whole),
    ]
    titles = [("by_steps", "steps"), ("by_family", "family")]
    if figures["by_asked"]:
        titles.append(("by_asked", "stories asked for"))
    for name, title in titles:
        lines += ["", f"## By {title}", "", *_difficulty_table(figures[name], title)]
    return "\n".join(lines) + "\n"


def _group(rows: Sequence[ReferenceRow], bootstrap: dict[str, int]) -> dict[str, Any]:
    lengths = [row.l_ref for row in rows if row.l_ref is not None]
    whole = [row.levels[-1].tokens for row in rows]
    levels = {
        f"{one.level:g}": _level([row.levels[at] for row in rows], whole, bootstrap)
        for at, one in enumerate(rows[0].levels)
    }
    return {
        "problems": len(rows),
        "levels": levels,
        "r_star": dict(sorted(Counter(f"{row.r_star:g}" for row in rows).items())),
        "r_star_mean": sum(row.r_star for row in rows) / len(rows),
        "unsolved": sum(not row.unanimous for row in rows),
        "r_star_estimated": _estimated(rows),
        "answer_need_mean": sum(row.need for row in rows) / len(rows),
        "l_ref_mean": sum(lengths) / len(lengths) if lengths else None,
        "without_l_ref": len(rows) - len(lengths),
    }


def _level(
    cells: Sequence[LevelAttempts], whole: Sequence[int], bootstrap: dict[str, int]
) -> dict[str, Any]:
    attempts = [attempt for cell in cells for attempt in cell.attempts]
    right = estimate([cell.accuracy for cell in cells], **bootstrap)
    ratio = ratio_estimate([cell.tokens for cell in cells], whole, **bootstrap)
    return {
        "accuracy": right.mean,
        "accuracy_interval": [right.low, right.high],
        "tokens": sum(attempt.tokens for attempt in attempts) / len(attempts),
        "total_tokens": sum(attempt.total for attempt in attempts) / len(attempts),
        "realised": None if ratio is None else ratio.mean,
        "realised_interval": None if ratio is None else [ratio.low, ratio.high],
        "unclosed": sum(not attempt.closed for attempt in attempts) / len(attempts),
        "unboxed": sum(attempt.boxed is None for attempt in attempts) / len(attempts),
    }


def _estimated(rows: Sequence[ReferenceRow]) -> dict[str, dict[str, float]]:
    """By level, how many problems need it by the estimate (``problems``), how many are to be
    expected by the probabilities, and how certain it is of those; empty for rows without."""
    found = [row.estimate for row in rows if row.estimate is not None]
    table: dict[str, dict[str, float]] = {}
    for at, one in enumerate(rows[0].levels if found else ()):
        own = [need for need in found if need.level == one.level]
        table[f"{one.level:g}"] = {
            "problems": len(own),
            "expected": sum(need.probabilities[at] for need in found),
            "certainty": sum(n.probabilities[at] for n in own) / len(own) if own else 0.0,
        }
    return table


def _needs_table(figures: dict[str, Any]) -> list[str]:
    estimated, unanimous = figures["r_star_estimated"], figures["r_star"]
    rows = []
    for level in sorted({*estimated, *unanimous}, key=float):
        of = estimated.get(level)
        own = "- | - | -" if of is None else (
            f"{of['problems']} | {of['expected']:.1f} | "
            + (f"{of['certainty']:.2f}" if of["problems"] else "-")
        )  # fmt: skip
        rows.append(f"{level} | {own} | {unanimous.get(level, 0)}")
    return table("r* | problems, estimated | expected | certainty | problems, unanimous", rows)


def _by(rows: Sequence[ReferenceRow], name: str, bootstrap: dict[str, int]) -> dict[str, Any]:
    """Figures per value of the field ``name``; rows where it is unknown are left out."""
    groups: dict[Any, list[ReferenceRow]] = {}
    for row in rows:
        groups.setdefault(getattr(row, name), []).append(row)
    groups.pop(None, None)
    return {str(value): _group(groups[value], bootstrap) for value in sorted(groups)}


def _level_table(figures: dict[str, Any]) -> list[str]:
    rows = (
        f"{level} | {_measured(of, 'accuracy')} | {of['tokens']:.1f} | "
        f"{_measured(of, 'realised')} | {of['unclosed']:.3f}"
        for level, of in figures["levels"].items()
    )
    return table("level | accuracy | reasoning tokens | realised ratio | unclosed", rows)


def _difficulty_table(groups: dict[str, Any], title: str) -> list[str]:
    if not groups:
        return [f"The problems don't say their {title}."]
    levels = list(next(iter(groups.values()))["levels"])
    rows = []
    for name, of in groups.items():
        cells = [f"{of['levels'][one]['accuracy']:.3f}" for one in levels]
        rows.append(" | ".join([name, str(of["problems"]), f"{of['r_star_mean']:.2f}", *cells]))
    head = [title, "problems", "mean r*", *(f"accuracy at {one}" for one in levels)]
    return table(" | ".join(head), rows)


def _measured(of: dict[str, Any], name: str) -> str:
    found = of[f"{name}_interval"]
    return interval(found and {"mean": of[name], "low": found[0], "high": found[1]})
