"""HTML views of the playground: a reply's summary, the comparison, the session's savings.

Pure: results in, text out.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from extracot_client.formatting import (
    cap_words,
    native_range,
    percent,
    seconds,
    summary_line,
    tokens,
)
from extracot_client.playground.charts import Bar, Chart, draw, table
from extracot_client.playground.markdown import to_html
from extracot_client.playground.session import RealisedRatio, realised_ratios, session_totals
from extracot_client.sweeps import budget_key
from extracot_client.types import BudgetCardPage, Solution, SweepRow

PARTS = ("reasoning", "answer")
SUMMARY = ("reasoning tokens", "answer tokens", "saved, estimated", "first token", "total time")
NOTHING_YET = (
    '<p class="xc-status">Nothing solved yet: this tab adds up what you do in the other two.</p>'
)


def status(text: str, *, kind: str = "") -> str:
    """A line that screen readers announce when it changes; ``kind`` is ``busy`` or ``error``."""
    role = "alert" if kind == "error" else "status"
    return f'<p class="xc-status {kind}" role="{role}">{html.escape(text)}</p>'


def server_line(page: BudgetCardPage, url: str) -> str:
    """Which model answers, and what a ratio means there."""
    levels = ", ".join(level.name for level in page.levels if level.allowed_by_policy)
    if levels:
        native = native_range(page)
        mode = f"{'measured' if page.mode == 'cap' else 'trained'} levels {levels}"
        mode += f"; native reasoning of {native} tokens on average" if native else ""
    else:
        mode = f"no budget card, so {cap_words(page)}"
    name = html.escape(page.model or "a model")
    domain = (page.card or {}).get("domain")
    knows = f'<p class="xc-domain">It knows {html.escape(str(domain))}.</p>' if domain else ""
    return (
        f'<p class="xc-server" role="status"><strong>{name}</strong>'
        f" at {html.escape(url)} · {html.escape(mode)}</p>{knows}"
    )


def example_questions(page: BudgetCardPage) -> list[str]:
    """Those of the model's card."""
    given = (page.card or {}).get("examples")
    return [text for text in given if isinstance(text, str)] if isinstance(given, list) else []


def summary_to_come(text: str, *, kind: str = "") -> str:
    """A status in place of the summary, of the same height, so that nothing jumps later."""
    tiles = _tiles([(name, "–") for name in SUMMARY], empty=True)
    return f"<section>{tiles}{status(text, kind=kind)}</section>"


def summary_card(solution: Solution) -> str:
    """The summary of one reply: the numbers, then the line that the command prints, too."""
    report, times = solution.report, solution.timings
    values = (
        tokens(solution.reasoning_tokens),
        tokens(report.answer_tokens),
        _signed(report.saved_tokens_estimate),
        seconds(times.ttft),
        seconds(times.total),
    )
    tiles = list(zip(SUMMARY, values, strict=True))
    line = f'<p class="xc-line" role="status">{html.escape(summary_line(solution))}</p>'
    return f'<section aria-label="Usage summary">{_tiles(tiles)}{line}</section>'


def compare_cards(rows: Sequence[SweepRow], pending: Sequence[str]) -> str:
    """One card per budget, side by side, for a Markdown component: formulas are rendered there."""
    cards = [_card(row) for row in rows]
    cards += [
        f'<section class="xc-card pending"><h3>{html.escape(name)}</h3><p>waiting …</p></section>'
        for name in pending
    ]
    return f'<div class="xc-cards">{"".join(cards)}</div>'


def compare_charts(rows: Sequence[SweepRow]) -> str:
    """Tokens and latency per budget, as two charts and as a table."""
    good = [row for row in rows if row.error is None]
    if not good:
        return ""
    spent = [
        Bar(
            budget_key(row.budget),
            (float(row.reasoning_tokens or 0), float(row.answer_tokens or 0)),
            f"{tokens(row.reasoning_tokens)} + {tokens(row.answer_tokens)}",
        )
        for row in good
    ]
    took = [_latency(row) for row in good]
    head = ("budget", "level", "reasoning", "answer", "saved", "first token", "total")
    lines = [
        (
            budget_key(row.budget),
            row.level or "–",
            tokens(row.reasoning_tokens),
            tokens(row.answer_tokens),
            _signed(row.saved_tokens_estimate),
            seconds(row.ttft),
            seconds(row.total),
        )
        for row in good
    ]
    charts = draw(Chart("Tokens", PARTS, tuple(spent)))
    charts += draw(Chart("Time", ("until the answer begins", "the answer"), tuple(took)))
    numbers = table(head, lines, "The same in numbers")
    return f'<div class="xc-charts">{charts}</div>{numbers}'


def savings_page(session: Sequence[SweepRow]) -> str:
    """The session's totals, and what the requested ratios became."""
    totals = session_totals(session)
    if not totals.replies:
        return NOTHING_YET
    tiles = [
        ("replies", tokens(totals.replies)),
        ("reasoning tokens", tokens(totals.reasoning_tokens)),
        ("generated tokens", tokens(totals.completion_tokens)),
        (
            "saved, estimated",
            _signed(totals.saved - totals.overspent if totals.with_saving else None),
        ),
        ("share saved", percent(totals.share_saved)),
    ]
    groups = realised_ratios(session)
    chart = draw(
        Chart(
            "Reasoning, relative to the baseline",
            ("realised",),
            tuple(_realised(group) for group in groups),
            tick="requested",
            note=_baseline_note(groups, totals.replies - totals.with_saving),
        )
    )
    return f'<section aria-label="Savings of this session">{_tiles(tiles)}{chart}</section>'


def _realised(group: RealisedRatio) -> Bar:
    asked = "" if group.requested is None else f", {percent(group.requested)} requested"
    count = f", {group.n} replies" if group.n > 1 else ""
    star = "*" if group.assumed else ""
    words = f"{percent(group.realised)}{star}{asked}{count}"
    return Bar(group.budget, (group.realised,), words, group.requested)


def _baseline_note(groups: Sequence[RealisedRatio], unsaved: int) -> str:
    notes: list[str] = []
    if any(group.assumed for group in groups):
        notes.append("* The baseline is the operator's assumption, not a measurement.")
    if unsaved:
        word = "reply has" if unsaved == 1 else "replies have"
        notes.append(
            f"{unsaved} {word} no saving: native, cut off, or without a measured baseline."
        )
    return " ".join(notes)


def _latency(row: SweepRow) -> Bar:
    total = row.total or 0.0
    begins = row.first_answer if row.first_answer is not None else total
    words = f"{seconds(row.total)} (answer after {seconds(row.first_answer)})"
    return Bar(budget_key(row.budget), (begins, max(0.0, total - begins)), words)


def _card(row: SweepRow) -> str:
    name = html.escape(budget_key(row.budget))
    if row.level not in (None, budget_key(row.budget), f"{budget_key(row.budget)}.0"):
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
        more = f"<details><summary>{summary}</summary><p>{reasoning}</p></details>"
    return f'<section class="xc-card"><h3>{name}</h3><p>{shown}</p>{cut}{more}</section>'


def _signed(saved: float | None) -> str:
    return "–" if saved is None else f"≈ {tokens(saved)}"


def _tiles(tiles: Sequence[tuple[str, str]], *, empty: bool = False) -> str:
    inner = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
        for name, value in tiles
    )
    more = ' empty" aria-hidden="true' if empty else ""
    return f'<dl class="xc-tiles{more}">{inner}</dl>'
