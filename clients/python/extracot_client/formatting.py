"""Counts, shares and durations as text, and the summary line of a reply: tokens, saving, time.

A saving is only ever printed where the server gave one; where it did not, the line says why.
"""

from __future__ import annotations

from extracot_client.sweeps import budget_key
from extracot_client.types import BudgetReport, Solution


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


def _budget_text(report: BudgetReport) -> str:
    """Which budget it was, and what came of it: ``budget auto → 0.4``."""
    requested = budget_key(report.requested)
    words = f"budget {requested}"
    applied = report.chosen or report.level
    if applied is not None and applied not in (requested, f"{requested}.0"):
        words += f" → {applied}"
    return words


def _saving_text(report: BudgetReport) -> str:
    """The saving, or why there is none to tell."""
    saved, baseline = report.saved_tokens_estimate, report.baseline_tokens
    if saved is not None:
        words = f"{'saved' if saved >= 0 else 'overspent'} ≈{tokens(abs(saved))}"
        if not baseline:
            return words
        return f"{words} ({percent(abs(saved) / baseline)} of {tokens(baseline)} expected)"
    if report.level == "native":
        return "native, so nothing saved"
    if report.baseline_source == "assumed":
        return f"saving not counted (the baseline of {tokens(baseline)} is assumed, not measured)"
    if baseline is None:
        return "saving unknown (no baseline)"
    return "saving not counted (not a whole, budgeted reply)"


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
