"""Bar charts as plain HTML: they follow the theme, reflow on a phone and can be read aloud.

Every bar has its numbers beside it as text. Knows nothing of budgets: it is handed labels and
numbers; the colours are classes of page.css.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of a chart: parts that are stacked, a tick that is only marked, words beside it."""

    label: str
    parts: tuple[float, ...]
    words: str
    tick: float | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars of one scale. ``series`` names the parts, in their order; ``tick`` names the mark."""

    title: str
    series: tuple[str, ...]
    bars: tuple[Bar, ...]
    tick: str | None = None
    note: str = ""


def draw(chart: Chart) -> str:
    """The chart as HTML; an empty one says so."""
    if not chart.bars:
        return ""
    widest = max(max(sum(bar.parts), bar.tick or 0.0) for bar in chart.bars) or 1.0
    legend = "".join(
        f'<span class="xc-key"><i class="xc-part-{index}"></i>{html.escape(name)}</span>'
        for index, name in enumerate(chart.series)
    )
    if chart.tick:
        legend += (
            f'<span class="xc-key"><i class="xc-tick-key"></i>{html.escape(chart.tick)}</span>'
        )
    lines = "".join(_line(bar, widest) for bar in chart.bars)
    note = f'<p class="xc-note">{html.escape(chart.note)}</p>' if chart.note else ""
    return (
        f'<figure class="xc-chart"><figcaption><strong>{html.escape(chart.title)}</strong>'
        f'<span class="xc-legend">{legend}</span></figcaption><ul>{lines}</ul>{note}</figure>'
    )


def _line(bar: Bar, widest: float) -> str:
    parts = "".join(
        f'<i class="xc-bar xc-part-{index}" style="width:{100 * max(part, 0.0) / widest:.2f}%"></i>'
        for index, part in enumerate(bar.parts)
    )
    tick = ""
    if bar.tick is not None:
        tick = f'<i class="xc-tick" style="left:{100 * bar.tick / widest:.2f}%"></i>'
    return (
        f'<li><span class="xc-label">{html.escape(bar.label)}</span>'
        f'<span class="xc-track" aria-hidden="true">{parts}{tick}</span>'
        f'<span class="xc-value">{html.escape(bar.words)}</span></li>'
    )


def table(head: Sequence[str], lines: Sequence[Sequence[str]], caption: str) -> str:
    """A table; the first column is a head. Where the page is too narrow for it, each line becomes a
    block with the columns' names (page.css)."""
    top = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in head)
    body = "".join(f"<tr>{_cells(head, line)}</tr>" for line in lines)
    return (
        f'<div class="xc-table" tabindex="0" role="region" aria-label="{html.escape(caption)}">'
        f"<table><caption>{html.escape(caption)}</caption>"
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cells(head: Sequence[str], line: Sequence[str]) -> str:
    first, *others = map(html.escape, line)
    names = map(html.escape, head[1:])
    cells = zip(names, others, strict=True)
    return f'<th scope="row">{first}</th>' + "".join(
        f'<td data-name="{name}">{cell}</td>' for name, cell in cells
    )
