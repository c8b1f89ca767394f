"""Figures as text: counts, shares, durations, the summary line of a reply, a server's baseline.

A saving is only ever printed where the server gave one; where it did not, the line says why. A
baseline is the reasoning a model would do without a budget. It is on the card (measured with the
checkpoint), measured by the server's holdout, or only assumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from extracot_client.savings import RowSaving
from extracot_client.sweeps import budget_key
from extracot_client.types import (
    BudgetCardPage,
    BudgetReport,
    Solution,
    SweepRow,
    number_at,
    value_at,
)


def seconds(value: float | None) -> str:
    """A duration; unknown is a dash."""
    if value is None:
        return "–"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def tokens(value: float | None) -> str:
    """A count; unknown is a dash."""
    return "–" if value is None else f"{value:,.0f}"


def percent(value: float | None) -> str:
    """A share; unknown is a dash."""
    return "–" if value is None else f"{100 * value:.0f}%"


def figure_cells(row: SweepRow, saving: RowSaving | None) -> tuple[str, ...]:
    """What a reply took, as cells of a table: level, reasoning tokens, all tokens, saved of all,
    saved of reasoning, seconds to the first token, seconds in all."""
    return (
        row.level or "–",
        tokens(row.reasoning_tokens),
        tokens(row.completion_tokens),
        tokens(None if saving is None else saving.total),
        tokens(None if saving is None else saving.reasoning),
        seconds(row.ttft),
        seconds(row.total),
    )


def _budget_text(report: BudgetReport) -> str:
    """Which budget it was, and what came of it: ``budget auto → 0.4``. A server that tells nothing
    may not have looked at the one that was asked for."""
    if report.source is None and report.level is None:
        return "no budget report"
    requested = budget_key(report.requested)
    words = f"budget {requested}"
    applied = report.chosen or report.level
    if applied is not None and applied not in (requested, f"{requested}.0"):
        words += f" → {applied}"
    return words


def _saving_text(report: BudgetReport) -> str:
    """The saving, or why there is none to tell."""
    saved, baseline = report.saved_tokens_estimate, report.baseline_tokens
    total = report.total_saved_tokens_estimate
    if saved is not None:
        words = f"{_saved_or_overspent(saved)} reasoning tokens"
        if baseline:
            words += f" ({percent(abs(saved) / baseline)} of {tokens(baseline)} expected)"
        return words if total is None else f"{words}, {_saved_or_overspent(total)} in all"
    if report.level == "native":
        return "native, so nothing saved"
    if report.baseline_source == "assumed":
        return f"saving not counted (the baseline of {tokens(baseline)} is assumed, not measured)"
    if baseline is None:
        return "saving unknown (no baseline)"
    why = no_saving_words(report.no_saving) or "no whole, budgeted reply"
    return f"saving not counted ({why})" + (
        f", {_saved_or_overspent(total)} in all" if total else ""
    )


def _saved_or_overspent(saved: float) -> str:
    return f"{'saved' if saved >= 0 else 'overspent'} ≈{tokens(abs(saved))}"


_NO_SAVING = {
    "native": "native replies save nothing",
    "no_baseline": "nothing to compare with",
    "assumed_baseline": "the baseline is assumed, not measured",
    "unlike_card": "the prompt is unlike the card's problems: see extracot card",
    "unfinished": "cut off, or without an answer",
    "no_reasoning": "the model did not reason",
}


def no_saving_words(reason: str | None) -> str:
    """Why a report claims no saving; empty for a reason that is not known here."""
    return _NO_SAVING.get(reason or "", "")


def _warnings(solution: Solution) -> list[str]:
    """What a reader of the answer should know."""
    report, found = solution.report, []
    if solution.finish_reason == "length":
        found.append("cut off at max tokens")
    if report.unclosed:
        found.append("the reasoning never ended")
    if report.cap_hit:
        found.append("reasoning cap hit")
    if report.ignored_fields:
        found.append(f"ignored: {', '.join(report.ignored_fields)}")
    return found


def summary_line(solution: Solution) -> str:
    """The whole line."""
    report, usage, times = solution.report, solution.usage, solution.timings
    reasoning = solution.reasoning_tokens
    used = f"{tokens(usage.completion_tokens)} tokens"
    if reasoning is not None:
        answer = report.answer_tokens
        rest = f" + answer {tokens(answer)}" if answer is not None else ""
        used = f"reasoning {tokens(reasoning)}{rest} tokens"
    took = f"{seconds(times.total)} (first token {seconds(times.ttft)}"
    took += f", answer after {seconds(times.first_answer)})" if times.first_answer else ")"
    return " · ".join(
        [_budget_text(report), used, _saving_text(report), took, *_warnings(solution)]
    )


def baseline_words(page: BudgetCardPage) -> str:
    """The whole of it, for a line of its own."""
    assumed, measured = _known(page, "assumed"), _known(page, "measured")
    match page.baseline.get("source"):
        case "assumed":
            return f"assumed, {assumed} reasoning tokens a request (never counted as savings)"
        case "holdout":
            return (
                f"measured on held-out requests, {measured} reasoning tokens a request "
                f"({assumed} were assumed before)"
            )
        case "card":
            bins = _bins(page)
            words = [_bin_words(entry, only=len(bins) == 1) for entry in bins]
            return f"card, {'; '.join(words) or 'which has none measured'}"
        case source:
            return str(source or "unknown")


def cap_words(page: BudgetCardPage) -> str:
    """What a ratio is a share of, on a server without a card."""
    sizes = {
        "assumed": f" of {_known(page, 'assumed')} assumed tokens",
        "holdout": f" of {_known(page, 'measured')} tokens, measured on held-out requests",
    }
    return "a ratio is a cap" + sizes.get(str(page.baseline.get("source")), "")


def native_range(page: BudgetCardPage) -> str | None:
    """The card's mean native reasoning, from the shortest prompts' bin to the longest's."""
    found = (number_at(entry, "reasoning", "mean") for entry in _bins(page))
    means = [mean for mean in found if mean is not None]
    if not means:
        return None
    low, high = tokens(min(means)), tokens(max(means))
    return low if low == high else f"{low} to {high}"


def holdout_words(page: BudgetCardPage) -> str | None:
    """The saving that the holdout has measured; ``None`` where there is none yet."""
    if not isinstance(page.holdout.get("saving_per_reply"), Mapping):
        return None
    confidence = number_at(page.holdout, "confidence")
    sure = f"{percent(confidence)} " if confidence is not None else ""

    def words(what: str, field: str) -> str:
        mean, low, high = (_count(page.holdout, field, name) for name in ("mean", "low", "high"))
        return f"{mean} {what} a reply ({sure}interval {low} to {high})"

    told = words("reasoning tokens", "saving_per_reply")
    if isinstance(page.holdout.get("total_saving_per_reply"), Mapping):
        told += f"; {words('tokens in all', 'total_saving_per_reply')}"
    return told


def _bin_words(entry: Mapping[str, Any], *, only: bool) -> str:
    if entry.get("max_prompt_tokens") is None:
        where = "" if only else "longer prompts: "
    else:
        where = f"prompts up to {_count(entry, 'max_prompt_tokens')}: "
    mean, p90 = _count(entry, "reasoning", "mean"), _count(entry, "reasoning", "p90")
    return f"{where}{mean} reasoning tokens natively, 9 of 10 below {p90}"


def _bins(page: BudgetCardPage) -> list[Mapping[str, Any]]:
    native = value_at(page.card, "baseline", "native") or []
    return [entry for entry in native if isinstance(entry, Mapping)]


def _known(page: BudgetCardPage, name: str) -> str:
    return _count(page.baseline, f"{name}_reasoning_tokens")


def _count(value: Any, *path: str) -> str:
    found = number_at(value, *path)
    return "some" if found is None else tokens(found)
