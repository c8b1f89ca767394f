"""The picture of a sweep: accuracy against reasoning tokens, one point per budget.

matplotlib is optional: without it, or without graded answers, a line says why there is no picture.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from extracot_client.summaries import BudgetSummary


def draw_sweep(summaries: Sequence[BudgetSummary], path: Path) -> str:
    """Write the PNG; gives a line that says so, or why not. Raises ``OSError`` for a bad path."""
    points = [
        (s.reasoning_tokens, s.accuracy, s.accuracy_low or 0.0, s.accuracy_high or 0.0, s.budget)
        for s in summaries
        if s.reasoning_tokens is not None and s.accuracy is not None
    ]
    if not points:
        return "no picture: no problem came with a known answer"
    if importlib.util.find_spec("matplotlib") is None:
        return "no picture: matplotlib is not installed (pip install 'extracot[plots]')"
    # The object interface with its own canvas: no global state, no window system.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for x, accuracy, low, high, name in sorted(points):
        error = [[100 * (accuracy - low)], [100 * (high - accuracy)]]
        axes.errorbar([x], [100 * accuracy], yerror_of(error), fmt="o", capsize=3, label=name)
        # Words stand below their point: `native` often lies on the last ratio.
        offset = (6, 6) if _is_ratio(name) else (6, -14)
        axes.annotate(name, (x, 100 * accuracy), xytext=offset, textcoords="offset points")
    ratios = sorted(point for point in points if _is_ratio(point[4]))
    axes.plot([p[0] for p in ratios], [100 * p[1] for p in ratios], color="0.6", zorder=0)
    axes.set_xlabel("reasoning tokens per problem (mean)")
    axes.set_ylabel("right answers, % (95% interval)")
    widest = max(max(x for x, *_ in points), 1.0)
    axes.set_xlim(-0.04 * widest, 1.14 * widest)
    axes.set_ylim(-6, 106)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150, format="png")
    return f"picture: {path}"


def yerror_of(error: list[list[float]]) -> list[list[float]]:
    """Lengths of the error bars, never below zero by rounding."""
    return [[max(0.0, value) for value in side] for side in error]


def _is_ratio(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
