"""Figures and Markdown of stage ``reference``. Knows rows, not how they were made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from extracot_training.config.reference import ReferenceConfig
from extracot_training.pipeline.reference_rows import LevelAttempts, ReferenceRow
from extracot_training.pipeline.statistics import estimate, ratio_estimate


def figures_of(rows: Sequence[ReferenceRow], *, resamples: int, seed: int) -> dict[str, Any]:
    """All figures of ``rows`` (one is needed): over all of them, by split, steps and family.

    Intervals are bootstraps over problems; ``realised`` is a ratio of sums of reasoning tokens,
    those of blocks that were never closed counted in full.
    """

    def of(some: Sequence[ReferenceRow]) -> dict[str, Any]:
        return _group(some, resamples, seed)

    return {
        "all": of(rows),
        "by_split": _by(rows, lambda row: row.split, of),
        "by_steps": _by(rows, lambda row: row.steps, of),
        "by_family": _by(rows, lambda row: row.family, of),
        "by_r_star": _by(rows, lambda row: row.r_star, of),
    }


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
        f"L_ref: mean {_number(whole['l_ref_mean'])} tokens; {whole['without_l_ref']} problems "
        "have none (no closed reply at level 1.0).",
        "",
        "## What problems need (r*)",
        "",
        "r* is the smallest level such that it and all above it were right in every reply; "
        f"{whole['unsolved']} problems have no such level and count as 1.0.",
        "",
        "| r* | problems |",
        "|---|---|",
        *(f"| {level} | {count} |" for level, count in whole["r_star"].items()),
    ]
    for name, title in (("by_steps", "steps"), ("by_family", "family")):
        lines += ["", f"## By {title}", "", *_difficulty_table(figures[name], title)]
    return "\n".join(lines) + "\n"


def _group(rows: Sequence[ReferenceRow], resamples: int, seed: int) -> dict[str, Any]:
    lengths = [row.l_ref for row in rows if row.l_ref is not None]
    whole = [row.levels[-1].tokens for row in rows]
    levels = {
        f"{one.level:g}": _level([row.levels[at] for row in rows], whole, resamples, seed)
        for at, one in enumerate(rows[0].levels)
    }
    return {
        "problems": len(rows),
        "levels": levels,
        "r_star": dict(sorted(Counter(f"{row.r_star:g}" for row in rows).items())),
        "r_star_mean": sum(row.r_star for row in rows) / len(rows),
        "unsolved": sum(not row.unanimous for row in rows),
        "l_ref_mean": sum(lengths) / len(lengths) if lengths else None,
        "without_l_ref": len(rows) - len(lengths),
    }


def _level(
    cells: Sequence[LevelAttempts], whole: Sequence[int], resamples: int, seed: int
) -> dict[str, Any]:
    attempts = [attempt for cell in cells for attempt in cell.attempts]
    right = estimate([cell.accuracy for cell in cells], resamples=resamples, seed=seed)
    ratio = ratio_estimate([c.tokens for c in cells], whole, resamples=resamples, seed=seed)
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


def _by(
    rows: Sequence[ReferenceRow],
    what: Callable[[ReferenceRow], object],
    of: Callable[[Sequence[ReferenceRow]], dict[str, Any]],
) -> dict[str, Any]:
    """Figures per value of ``what``; rows where it is unknown are left out."""
    groups: dict[Any, list[ReferenceRow]] = {}
    for row in rows:
        value = what(row)
        if value is not None:
            groups.setdefault(value, []).append(row)
    return {str(value): of(groups[value]) for value in sorted(groups)}


def _level_table(figures: dict[str, Any]) -> list[str]:
    lines = [
        "| level | accuracy | reasoning tokens | realised ratio | unclosed |",
        "|---|---|---|---|---|",
    ]
    for level, of in figures["levels"].items():
        low, high = of["accuracy_interval"]
        lines.append(
            f"| {level} | {of['accuracy']:.3f} [{low:.3f}, {high:.3f}] | {of['tokens']:.1f} | "
            f"{_with_interval(of)} | {of['unclosed']:.3f} |"
        )
    return lines


def _difficulty_table(groups: dict[str, Any], title: str) -> list[str]:
    if not groups:
        return [f"The problems don't say their {title}."]
    levels = list(next(iter(groups.values()))["levels"])
    head = f"| {title} | problems | mean r* |" + "".join(f" accuracy at {one} |" for one in levels)
    lines = [head, "|---" * (3 + len(levels)) + "|"]
    for name, of in groups.items():
        cells = "".join(f" {of['levels'][one]['accuracy']:.3f} |" for one in levels)
        lines.append(f"| {name} | {of['problems']} | {of['r_star_mean']:.2f} |{cells}")
    return lines


def _with_interval(of: dict[str, Any]) -> str:
    if of["realised"] is None:
        return "-"
    low, high = of["realised_interval"]
    return f"{of['realised']:.3f} [{low:.3f}, {high:.3f}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
