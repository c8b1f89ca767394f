"""Totals of a playground session, and realised against requested ratios.

Pure arithmetic on rows (the rows of a sweep; a solved problem is a sweep of one). Ratios are
ratios of sums; a saving is measured against the session's own native replies where it has one to
the same problem, and is else the server's estimate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from extracot.usage import realised_ratio
from extracot_client.savings import row_savings
from extracot_client.sweeps import as_problem, budget_key, fingerprint, make_row
from extracot_client.types import Budget, Solution, SweepRow


@dataclass(frozen=True, slots=True)
class SessionTotals:
    """Sums over the rows without error; tokens are the server's counts, ``None`` where it does not
    tell those of every reply."""

    replies: int
    reasoning_tokens: int | None
    completion_tokens: int | None
    saved: float | None
    """All tokens saved, net; ``None`` where nothing can be said."""
    saved_reasoning: float | None
    measured: int
    """Replies compared with a native one of the session to the same problem."""
    estimated: int
    """Replies compared with the server's baseline."""


@dataclass(frozen=True, slots=True)
class RealisedRatio:
    """One requested budget: how long its reasoning really was, against the baseline."""

    budget: str
    requested: float | None
    """``None`` for auto, native and none, which ask for no ratio."""
    n: int
    realised: float
    assumed: bool
    """The baseline of some of them is the operator's assumption, not a measurement."""


def solution_row(problem: str, budget: Budget, solution: Solution) -> SweepRow:
    """A solved problem as a row."""
    question = as_problem(problem)
    return make_row(question, budget, fingerprint(question, {}), solution)


def remember(session: Sequence[SweepRow], row: SweepRow) -> list[SweepRow]:
    """The session with one more row, without its texts: only numbers are added up."""
    light = {"question": "", "answer": None, "reasoning": None, "boxed": None}
    return [*session, row.model_copy(update=light)]


def session_totals(session: Sequence[SweepRow]) -> SessionTotals:
    """Add a session up."""
    good = [row for row in session if row.error is None]
    savings = [saving for saving in row_savings(good) if saving is not None]
    measured = sum(saving.measured for saving in savings)
    return SessionTotals(
        replies=len(good),
        reasoning_tokens=_whole(row.reasoning_tokens for row in good),
        completion_tokens=_whole(row.completion_tokens for row in good),
        saved=_sum(saving.total for saving in savings),
        saved_reasoning=_sum(saving.reasoning for saving in savings),
        measured=measured,
        estimated=len(savings) - measured,
    )


def _whole(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if None in known else sum(count or 0 for count in known)


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def realised_ratios(session: Sequence[SweepRow]) -> list[RealisedRatio]:
    """One entry per requested budget that has a baseline: ratios ascending, then words."""
    groups: dict[str, list[SweepRow]] = {}
    for row in session:
        if row.error is None and row.reasoning_tokens is not None and row.baseline_tokens:
            groups.setdefault(budget_key(row.budget), []).append(row)
    found: list[RealisedRatio] = []
    for budget, rows in groups.items():
        reasoning = sum(row.reasoning_tokens or 0 for row in rows)
        realised = realised_ratio(reasoning, sum(row.baseline_tokens or 0.0 for row in rows))
        if realised is None:
            continue
        asked = rows[0].budget
        requested = float(asked) if isinstance(asked, int | float) else None
        assumed = any(row.baseline_source == "assumed" for row in rows)
        found.append(RealisedRatio(budget, requested, len(rows), realised, assumed))
    return sorted(
        found, key=lambda entry: (entry.requested is None, entry.requested or 0.0, entry.budget)
    )
