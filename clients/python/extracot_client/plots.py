"""The picture of a sweep: accuracy against reasoning tokens, one point per budget.

matplotlib is optional: without it, or without graded answers, a line says why there is no picture.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extracot_client.sweeps import BudgetSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Ratios are one line in one colour; the words that are no ratio each have a mark of their own.
# The colours can be told apart by colour-blind eyes, the marks by all.
_RATIO_COLOUR = "#4657b8"
_WORDS = {"auto": ("D", "#c2410c"), "native": ("s", "#374151"), "none": ("X", "#0f766e")}
_OTHER = ("^", "#7c3aed")


@dataclass(frozen=True, slots=True)
class _Point:
    """One budget in the picture; accuracies in per cent."""

    tokens: float
    accuracy: float
    low: float
    high: float
    name: str

    @property
    def is_ratio(self) -> bool:
        try:
            float(self.name)
        except ValueError:
            return False
        return True


def draw_sweep(summaries: Sequence[BudgetSummary], path: Path, title: str = "") -> str:
    """Write the PNG; gives a line that says so, or why not. Raises ``OSError`` for a bad path."""
    points = [
        _Point(
            s.reasoning_tokens,
            100 * s.accuracy,
            100 * (s.accuracy_low or 0.0),
            100 * (s.accuracy_high or 0.0),
            s.budget,
        )
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
    _draw_points(axes, points)
    _frame(axes, points, title)
    figure.savefig(path, dpi=150, format="png")
    return f"picture: {path}"


def _draw_points(axes: Axes, points: list[_Point]) -> None:
    ratios = sorted((point for point in points if point.is_ratio), key=lambda p: float(p.name))
    axes.plot([p.tokens for p in ratios], [p.accuracy for p in ratios], color=_RATIO_COLOUR, lw=1.5)
    for point in points:
        mark, colour = ("o", _RATIO_COLOUR) if point.is_ratio else _WORDS.get(point.name, _OTHER)
        axes.errorbar(
            [point.tokens],
            [point.accuracy],
            # Never below zero by rounding.
            [[max(0.0, point.accuracy - point.low)], [max(0.0, point.high - point.accuracy)]],
            fmt=mark,
            ms=7,
            capsize=3,
            elinewidth=1,
            color=colour,
            zorder=3,
        )
    _name_points(axes, points)


def _name_points(axes: Axes, points: list[_Point]) -> None:
    """Ratios are named right above the whisker, words right below it: ``native`` often lies on
    the last ratio. Names that would still touch move a line further out."""
    style: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": 9}
    widest = max(point.tokens for point in points) or 1.0
    taken: dict[bool, list[tuple[float, int]]] = {True: [], False: []}
    for point in sorted(points, key=lambda p: p.tokens):
        up = point.is_ratio
        used = {line for x, line in taken[up] if abs(x - point.tokens) < 0.07 * widest}
        line = next(number for number in range(len(points)) if number not in used)
        taken[up].append((point.tokens, line))
        y, shift = (point.high, 5 + 11 * line) if up else (point.low, -13 - 11 * line)
        colour = _RATIO_COLOUR if up else _WORDS.get(point.name, _OTHER)[1]
        axes.annotate(point.name, (point.tokens, y), xytext=(0, shift), color=colour, **style)


def _frame(axes: Axes, points: list[_Point], title: str) -> None:
    axes.set_xlabel("reasoning tokens per problem (mean)")
    axes.set_ylabel("right answers, % (95% interval)")
    if title:
        axes.set_title(title, fontsize=10, loc="left")
    widest = max(max(point.tokens for point in points), 1.0)
    axes.set_xlim(-0.06 * widest, 1.06 * widest)
    axes.set_ylim(-9, 109)
    axes.set_yticks(range(0, 101, 20))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
