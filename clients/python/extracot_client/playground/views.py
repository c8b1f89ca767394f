"""HTML views of the playground: the server, a reply's summary, the session's savings.

The comparison's are in :mod:`extracot_client.playground.compare_views`. Pure: results in, text out.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from extracot_client.errors import one_line
from extracot_client.formatting import (
    cap_words,
    native_range,
    percent,
    seconds,
    summary_line,
    tokens,
)
from extracot_client.playground.charts import Bar, Chart, draw
from extracot_client.playground.session import (
    RealisedRatio,
    SessionTotals,
    realised_ratios,
    session_totals,
)
from extracot_client.types import BudgetCardPage, Solution, SweepRow

SUMMARY = (
    *("reasoning tokens", "answer tokens", "saved in all", "in reasoning"),
    *("first token", "total time"),
)
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
    knows = ""
    if domain:
        knows = (
            f'<p class="xc-domain" role="note"><strong>A narrow model.</strong> It knows '
            f"{html.escape(str(domain))}: try an example before a problem of your own.</p>"
        )
    return (
        f'<p class="xc-server" role="status"><strong>{name}</strong>'
        f" at {html.escape(url)} · {html.escape(mode)}</p>{knows}"
    )


def example_questions(page: BudgetCardPage) -> list[str]:
    """Those of the model's card."""
    given = (page.card or {}).get("examples")
    return [text for text in given if isinstance(text, str)] if isinstance(given, list) else []


def example_labels(questions: Sequence[str], size: int = 56) -> list[str]:
    """What each is listed as: its beginning, or its end where others begin alike.

    >>> example_labels(["One and two. Add.", "One and two. Subtract.", "Three?"], 10)
    ['…two. Add.', '…Subtract.', 'Three?']
    """
    begun = [one_line(text, size) for text in questions]
    return [
        "…" + text[1 - size :] if len(text) > size and begun.count(label) > 1 else label
        for text, label in zip(questions, begun, strict=True)
    ]


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
        _signed(report.total_saved_tokens_estimate),
        _signed(report.saved_tokens_estimate),
        seconds(times.ttft),
        seconds(times.total),
    )
    tiles = list(zip(SUMMARY, values, strict=True))
    line = f'<p class="xc-line" role="status">{html.escape(summary_line(solution))}</p>'
    return f'<section aria-label="Usage summary">{_tiles(tiles)}{line}</section>'


def savings_page(session: Sequence[SweepRow]) -> str:
    """The session's totals, and what the requested ratios became."""
    totals = session_totals(session)
    if not totals.replies:
        return NOTHING_YET
    tiles = [
        ("replies", tokens(totals.replies)),
        ("reasoning tokens", tokens(totals.reasoning_tokens)),
        ("generated tokens", tokens(totals.completion_tokens)),
        ("saved in all", _signed(totals.saved, estimated=totals.estimated)),
        ("in reasoning", _signed(totals.saved_reasoning, estimated=totals.estimated)),
    ]
    groups = realised_ratios(session)
    chart = draw(
        Chart(
            "Reasoning, relative to the baseline",
            ("realised",),
            tuple(_realised(group) for group in groups),
            tick="requested",
            note=_baseline_note(groups, totals),
        )
    )
    return f'<section aria-label="Savings of this session">{_tiles(tiles)}{chart}</section>'


def _realised(group: RealisedRatio) -> Bar:
    asked = "" if group.requested is None else f", {percent(group.requested)} requested"
    count = f", {group.n} replies" if group.n > 1 else ""
    star = "*" if group.assumed else ""
    words = f"{percent(group.realised)}{star}{asked}{count}"
    return Bar(group.budget, (group.realised,), words, group.requested)


def _baseline_note(groups: Sequence[RealisedRatio], totals: SessionTotals) -> str:
    notes: list[str] = []
    if totals.measured:
        notes.append(f"{_replies(totals.measured)} compared with a native one to the same problem.")
    if totals.estimated:
        notes.append(f"{_replies(totals.estimated)} compared with the server's baseline (≈).")
    if any(group.assumed for group in groups):
        notes.append("* The baseline is the operator's assumption, not a measurement.")
    if unsaved := totals.replies - totals.measured - totals.estimated:
        word = "reply has" if unsaved == 1 else "replies have"
        notes.append(f"{unsaved} {word} no saving: native, cut off, or nothing to compare with.")
    return " ".join(notes)


def _replies(count: int) -> str:
    return "1 reply is" if count == 1 else f"{count} replies are"


def _signed(saved: float | None, *, estimated: int = 1) -> str:
    if saved is None:
        return "–"
    return f"≈ {tokens(saved)}" if estimated else tokens(saved)


def _tiles(tiles: Sequence[tuple[str, str]], *, empty: bool = False) -> str:
    inner = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
        for name, value in tiles
    )
    more = ' empty" aria-hidden="true' if empty else ""
    return f'<dl class="xc-tiles{more}">{inner}</dl>'
