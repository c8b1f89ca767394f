"""The one line under a reply: what it used, what that saved, how long it took.

A saving is only ever printed where the server gave one; where it did not, the line says why.
"""

from __future__ import annotations

from extracot_client.sweeps import budget_key
from extracot_client.types import BudgetReport, Solution


def seconds(value: float | None) -> str:
    """A duration for people."""
    if value is None:
        return "–"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def tokens(value: float | None) -> str:
    """A count for people; unknown is a dash."""
    return "–" if value is None else f"{value:,.0f}"


def percent(value: float | None) -> str:
    """A share for people; unknown is a dash."""
    return "–" if value is None else f"{100 * value:.0f}%"


def budget_words(report: BudgetReport) -> str:
    """Which budget it was, and what came of it: ``budget 0.2 → level 0.2``."""
    requested = budget_key(report.requested)
    words = f"budget {requested}"
    applied = report.chosen or report.level
    if applied is not None and applied not in (requested, f"{requested}.0"):
        words += f" → {applied}"
    return words


def saving_words(report: BudgetReport) -> str:
    """The saving, or why there is none to tell."""
    saved, baseline = report.saved_tokens_estimate, report.baseline_tokens
    if saved is not None:
        of = (
            f" ({100 * abs(saved) / baseline:.0f}% of {tokens(baseline)} expected)"
            if baseline
            else ""
        )
        return f"saved ≈{tokens(saved)}{of}" if saved >= 0 else f"overspent ≈{tokens(-saved)}{of}"
    if report.level == "native":
        return "native, so nothing saved"
    if report.baseline_source == "assumed":
        return f"saving not counted (the baseline of {tokens(baseline)} is assumed, not measured)"
    if baseline is None:
        return "saving unknown (no baseline)"
    return "saving not counted (not a whole, budgeted reply)"


def warnings(solution: Solution) -> list[str]:
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


def receipt(solution: Solution) -> str:
    """The whole line."""
    report, usage, times = solution.report, solution.usage, solution.timings
    reasoning = report.reasoning_tokens
    if reasoning is None:
        reasoning = usage.reasoning_tokens
    used = f"{tokens(usage.completion_tokens)} tokens"
    if reasoning is not None:
        answer = report.answer_tokens
        rest = f" + answer {tokens(answer)}" if answer is not None else ""
        used = f"reasoning {tokens(reasoning)}{rest} tokens"
    took = f"{seconds(times.total)} (first token {seconds(times.ttft)}"
    took += f", answer after {seconds(times.first_answer)})" if times.first_answer else ")"
    parts = [budget_words(report), used, saving_words(report), took, *warnings(solution)]
    return " · ".join(parts)
