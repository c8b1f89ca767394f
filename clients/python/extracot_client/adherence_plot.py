"""The picture of ``extracot adherence``: asked against realised, and accuracy, for each server.

matplotlib is optional: without it a line says why there is no picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from extracot_client.adherence_figures import Figures
from extracot_client.intervals import Estimate, MeanEstimate
from extracot_client.plots import NO_PACKAGE, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours that colour-blind eyes tell apart, each with a mark of its own.
_LOOKS = (("o", "#4657b8"), ("s", "#c2410c"), ("^", "#0f766e"), ("D", "#7c3aed"), ("v", "#374151"))


def draw_adherence(found: Sequence[Figures], path: Path, title: str = "") -> str:
    """Write the PNG; gives a line that says so, or why not. Raises ``OSError`` for a bad path."""
    capped = [one for one in found if one.requested is not None and one.realised is not None]
    if not capped:
        if found and not any(one.n for one in found):
            return "no picture: all requests failed"
        return "no picture: no reply tells how long it reasoned"
    figure = new_figure(9.5, 4.2)
    if figure is None:
        return NO_PACKAGE
    lengths, answers = figure.subplots(1, 2)
    most = max(one.requested or 0 for one in capped)
    lengths.plot([0, most], [0, most], color="#9ca3af", ls="--", lw=1, label="as asked")
    for index, server in enumerate(dict.fromkeys(one.server for one in found)):
        mark, colour = _LOOKS[index % len(_LOOKS)]
        own = [one for one in capped if one.server == server]
        asked = [float(one.requested or 0) for one in own]
        _line(lengths, asked, [one.realised for one in own], 1.0, mark, colour, server)
        _line(answers, asked, [one.accuracy for one in own], 100.0, mark, colour, server)
    lengths.set_ylabel("reasoning tokens realised (mean)")
    answers.set_ylabel("right answers, % (95% interval)")
    answers.set_ylim(-4, 104)
    for axes in (lengths, answers):
        axes.set_xlabel("reasoning tokens asked for")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    lengths.legend(fontsize=9, frameon=False)
    if title:
        figure.suptitle(title, fontsize=10)
    return save(figure, path)


def _line(
    axes: Axes,
    asked: Sequence[float],
    values: Sequence[Estimate | MeanEstimate | None],
    scale: float,
    mark: str,
    colour: str,
    name: str,
) -> None:
    """One server's points, as far as they are known, with their intervals."""
    known = [(x, value) for x, value in zip(asked, values, strict=True) if value is not None]
    axes.errorbar(
        [x for x, _ in known],
        [scale * value.mean for _, value in known],
        [
            [scale * _reach(value.mean, value.low) for _, value in known],
            [scale * _reach(value.mean, value.high) for _, value in known],
        ],
        fmt=mark + "-",
        color=colour,
        ms=6,
        lw=1.5,
        capsize=3,
        elinewidth=1,
        label=name,
    )


def _reach(mean: float, bound: float | None) -> float:
    """How far a whisker goes; nowhere without an interval."""
    return 0.0 if bound is None else abs(bound - mean)
