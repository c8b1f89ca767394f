"""The picture of a sweep: accuracy against reasoning tokens, one point per budget.

matplotlib is optional: without it, or without graded answers, a line says why there is no picture.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from extracot_client.sweeps import BudgetSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

# Ratios are one line in one colour; the words that are no ratio each have a mark of their own.
# The colours can be told apart by colour-blind eyes, the marks by all.
_RATIO_COLOUR = "#4657b8"
_WORDS = {"auto": ("D", "#c2410c"), "native": ("s", "#374151"), "none": ("X", "#0f766e")}
_OTHER = ("^", "#7c3aed")
NO_PACKAGE = "no picture: matplotlib is not installed (pip install 'extracot[plots]')"


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


def new_figure(width: float, height: float) -> Figure | None:
    """An empty figure, sizes in inches; ``None`` where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return None
    # The object interface with its own canvas: no global state, no window system.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> str:
    """Write the PNG; gives a line that says so. Raises ``OSError`` for a bad path."""
    figure.savefig(path, dpi=150, format="png")
    return f"picture: {path}"


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
        return f"no picture: {_why_none(summaries)}"
    figure = new_figure(7.0, 4.5)
    if figure is None:
        return NO_PACKAGE
    axes = figure.add_subplot()
    _draw_points(axes, points)
    _frame(axes, points, title)
    _name_points(figure, axes, points)
    return save(figure, path)


def _why_none(summaries: Sequence[BudgetSummary]) -> str:
    if any(s.n for s in summaries) and all(s.n == s.errors for s in summaries):
        return "all requests failed"
    if any(s.accuracy is not None for s in summaries):
        return "the server does not tell how many tokens replies reason for"
    return "no problem that was answered has a known answer"


def _draw_points(axes: Axes, points: list[_Point]) -> None:
    # From left to right: levels whose lengths are not in their order would make a zigzag.
    ratios = sorted((point for point in points if point.is_ratio), key=lambda p: p.tokens)
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


def _name_points(figure: Figure, axes: Axes, points: list[_Point]) -> list[Annotation]:
    """Names beside their points, none on another or on a point; the axes must be final.

    Ratios go above their whisker and words below it where there is room, since ``native`` often
    lies on the last ratio; else to a side, else further out.
    """
    figure.draw_without_rendering()
    taken = [_box_of(axes, point) for point in points]
    names: list[Annotation] = []
    for point in sorted(points, key=lambda p: p.tokens):
        colour = _RATIO_COLOUR if point.is_ratio else _WORDS.get(point.name, _OTHER)[1]
        name = axes.annotate(
            point.name,
            (point.tokens, point.accuracy),
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=9,
            color=colour,
        )
        for place in _places(axes, point):
            name.set_position(place)
            box = name.get_window_extent().padded(1.0)
            if not any(box.overlaps(other) for other in taken):
                break
        taken.append(name.get_window_extent().padded(1.0))
        names.append(name)
    return names


def _places(axes: Axes, point: _Point) -> Iterator[tuple[float, float]]:
    """Offsets from the point, in typographic points, the nearest first."""
    box = _box_of(axes, point)
    _, y = axes.transData.transform((point.tokens, point.accuracy))
    dots = axes.figure.dpi / 72
    above, below = (box.y1 - y) / dots + 8, (box.y0 - y) / dots - 8
    aside = 14 + 3 * len(point.name)
    first, second = (above, below) if point.is_ratio else (below, above)
    for further in range(12):
        out = 11.0 * further
        yield 0, first + math.copysign(out, first)
        yield 0, second + math.copysign(out, second)
        yield aside, out
        yield -aside, out
        yield aside, -out
        yield -aside, -out


def _box_of(axes: Axes, point: _Point) -> Bbox:
    """What the point's mark and whisker cover, in pixels."""
    x, low = axes.transData.transform((point.tokens, point.low))
    _, high = axes.transData.transform((point.tokens, point.high))
    _, y = axes.transData.transform((point.tokens, point.accuracy))
    from matplotlib.transforms import Bbox

    half = 5 * axes.figure.dpi / 72
    return Bbox([[x - half, min(low, y - half)], [x + half, max(high, y + half)]])


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
