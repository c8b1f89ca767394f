"""HTML of the comparison: who is right and at what price, in a table, charts and cards.

Every budget has its place from the start, so that replies arrive in place. Pure: rows in, text out.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from extracot.answers import same_answer
from extracot_client.errors import one_line
from extracot_client.formatting import figure_cells, seconds, tokens
from extracot_client.playground.charts import Bar, Chart, draw, table
from extracot_client.playground.markdown import to_html
from extracot_client.savings import RowSaving, row_savings
from extracot_client.types import SweepRow

PARTS = ("reasoning", "answer")
TIMES = ("until the answer begins", "the answer")
HEAD = (
    *("budget", "answer", "is", "level", "reasoning", "in all", "saved", "in reasoning"),
    *("first token", "total"),
)
NOTHING_COMPARED = (
    '<p class="xc-status">Nothing compared yet. Here will be a line for each budget: its answer, '
    "whether the others give the same (or whether it is the known one), the tokens it took, and "
    "what that saves against the native reply. Below it charts, and each reply with its "
    "reasoning.</p>"
)
_WAITING = "…"
_LONGEST_ANSWER = 60


def compare_table(names: Sequence[str], rows: Mapping[str, SweepRow]) -> str:
    """A line for each budget, and what its figures are measured by."""
    known = [rows[name] for name in names if name in rows]
    judged, saved = judgements(known), row_savings(known)
    at = {name: index for index, name in enumerate(name for name in names if name in rows)}
    lines = [
        _line(name, rows[name], judged[at[name]], saved[at[name]])
        if name in rows
        else (name, *[_WAITING] * (len(HEAD) - 1))
        for name in names
    ]
    told = f'<p class="xc-note">{html.escape(_saved_by(saved))}</p>' if known else ""
    return f'<div class="xc-compared">{table(HEAD, lines, "The replies")}{told}</div>'


def _line(name: str, row: SweepRow, judged: str, saving: RowSaving | None) -> tuple[str, ...]:
    if row.error is not None:
        return (name, " ".join(row.error.split()), "failed", *["–"] * (len(HEAD) - 3))
    return (name, answer_of(row) or "–", judged or "–", *figure_cells(row, saving))


def _saved_by(savings: Sequence[RowSaving | None]) -> str:
    known = [saving for saving in savings if saving is not None]
    if any(saving.measured for saving in known):
        return "Saved: tokens less than the native reply took. One reply each, so chance is in it."
    if known:
        return "Saved: tokens less than the server's baseline, an estimate."
    return "Saved: nothing is claimed; compare with native to measure it."


def answer_of(row: SweepRow) -> str:
    """What stands in the box, else the answer itself where it is short."""
    if row.boxed is not None:
        return row.boxed
    return one_line(row.answer or "", _LONGEST_ANSWER)


def judgements(rows: Sequence[SweepRow]) -> list[str]:
    """Of each reply: right or wrong where the answer is known, else how many others agree."""
    said = [None if row.error is not None else answer_of(row) or None for row in rows]
    found = []
    for index, (row, own) in enumerate(zip(rows, said, strict=True)):
        if row.correct is not None:
            found.append("✓ right" if row.correct else "× wrong")
            continue
        others = [other for n, other in enumerate(said) if n != index and other is not None]
        same = sum(own is not None and same_answer(other, own) for other in others)
        found.append(f"= {same} of {len(others)} others" if own is not None and others else "")
    return found


def compare_cards(names: Sequence[str], rows: Mapping[str, SweepRow], *, waiting: bool) -> str:
    """One card per budget, side by side, for a Markdown component: formulas are rendered there.
    Once nothing is waited for, budgets without a reply have none."""
    word = '<section class="xc-card pending"><h3>{}</h3><p>waiting …</p></section>'
    cards = [
        _card(name, rows[name]) if name in rows else word.format(html.escape(name))
        for name in names
        if name in rows or waiting
    ]
    return f'<div class="xc-cards">{"".join(cards)}</div>'


def compare_charts(names: Sequence[str], rows: Mapping[str, SweepRow]) -> str:
    """Tokens and latency per budget; nothing where all have failed."""
    if rows and all(row.error is not None for row in rows.values()):
        return ""
    spent, took = [], []
    for name in names:
        row = rows.get(name)
        if row is None or row.error is not None:
            words = _WAITING if row is None else "failed"
            spent.append(Bar(name, (0.0, 0.0), words))
            took.append(Bar(name, (0.0, 0.0), words))
            continue
        counts = (float(row.reasoning_tokens or 0), float(row.answer_tokens or 0))
        words = f"{tokens(row.reasoning_tokens)} + {tokens(row.answer_tokens)}"
        spent.append(Bar(name, counts, words))
        took.append(_latency(name, row))
    charts = draw(Chart("Tokens", PARTS, tuple(spent))) + draw(Chart("Time", TIMES, tuple(took)))
    return f'<div class="xc-charts">{charts}</div>'


def _latency(name: str, row: SweepRow) -> Bar:
    total = row.total or 0.0
    begins = row.first_answer if row.first_answer is not None else total
    words = f"{seconds(row.total)} (answer after {seconds(row.first_answer)})"
    return Bar(name, (begins, max(0.0, total - begins)), words)


def _card(budget: str, row: SweepRow) -> str:
    name = html.escape(budget)
    if row.level not in (None, budget, f"{budget}.0"):
        name += f" <small>→ {html.escape(row.level or '')}</small>"
    if row.error is not None:
        error = html.escape(" ".join(row.error.split()))
        return f'<section class="xc-card"><h3>{name}</h3><p class="xc-bad">{error}</p></section>'
    shown = to_html(row.answer or "") or "<em>no answer</em>"
    cut = '<p class="xc-bad">cut off at max tokens</p>' if row.finish_reason == "length" else ""
    reasoning = to_html(row.reasoning or "")
    summary = f"{tokens(row.reasoning_tokens)} reasoning tokens · {seconds(row.total)}"
    more = f'<p class="xc-spent">{summary}</p>'
    if reasoning:
        more = f"<details open><summary>{summary}</summary><p>{reasoning}</p></details>"
    return f'<section class="xc-card"><h3>{name}</h3><p>{shown}</p>{cut}{more}</section>'
