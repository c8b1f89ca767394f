"""What budgets saved: against native replies where there are any, else by the server's estimates.

What was just measured is never contradicted: as soon as a problem has a native reply among the
rows, its other replies are compared with that one, in all generated tokens. Pure arithmetic.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from extracot_client.types import SweepRow

LEAST_FOR_INTERVAL = 10
"""Fewer pairs say too little of how much they differ among themselves."""
_CONFIDENCE = 0.95
_MOST_RESAMPLES, _MOST_DRAWS = 2000, 1_000_000


@dataclass(frozen=True, slots=True)
class RowSaving:
    """Of one reply: all generated tokens, and the reasoning among them; ``None``: not known.

    ``measured``: against the native reply to the same problem, else it is the server's estimate.
    """

    total: float | None
    reasoning: float | None
    measured: bool


@dataclass(frozen=True, slots=True)
class Saving:
    """Of several replies together, in tokens; ``low`` and ``high`` are of ``total``, at 95 %.

    Not every reply has both: ``replies`` are those that ``total`` is the sum over,
    ``reasoning_replies`` those of ``reasoning``.
    """

    replies: int
    reasoning_replies: int
    total: float | None
    low: float | None
    high: float | None
    reasoning: float | None
    measured: bool


def is_native(row: SweepRow) -> bool:
    """Whether a reply had no budget: by the server's word, else by what was asked for.

    To a server a cap in tokens is one on native reasoning; here it is a budget.
    """
    asked = row.budget
    capped = isinstance(asked, dict) and asked.get("max_reasoning_tokens") is not None
    return row.error is None and not capped and (row.level or asked) == "native"


def row_savings(rows: Sequence[SweepRow]) -> list[RowSaving | None]:
    """What each row saved; ``None`` for native and failed ones, and where nothing is known."""
    native: dict[str, list[SweepRow]] = {}
    for row in rows:
        if is_native(row):
            native.setdefault(row.problem_id, []).append(row)
    return [_row_saving(row, native.get(row.problem_id, [])) for row in rows]


def _row_saving(row: SweepRow, native: Sequence[SweepRow]) -> RowSaving | None:
    if row.error is not None or is_native(row):
        return None
    if native:
        total = _less(row, [other.completion_tokens for other in native], row.completion_tokens)
        reasoning = _less(row, [other.reasoning_tokens for other in native], row.reasoning_tokens)
    else:
        total, reasoning = row.total_saved_tokens_estimate, row.saved_tokens_estimate
    if total is None and reasoning is None:
        return None
    return RowSaving(total, reasoning, measured=bool(native))


def _less(row: SweepRow, native: Sequence[int | None], own: int | None) -> float | None:
    """Native tokens (their mean) less the reply's. One that was cut or has no answer did not do
    the same for less: it can only have cost more."""
    known = [count for count in native if count is not None]
    if own is None or not known:
        return None
    saved = sum(known) / len(known) - own
    whole = row.finish_reason != "length" and not _empty(row)
    return saved if whole else min(saved, 0.0)


def _empty(row: SweepRow) -> bool:
    """By the server's report, or by the text where it has none: a tool call stands in none."""
    if row.answer_tokens is not None or row.answer is None:
        return row.answer_tokens == 0
    return row.finish_reason != "tool_calls" and not row.answer.strip()


def add_up(savings: Iterable[RowSaving | None]) -> Saving | None:
    """Sums over those that are known; of the measured ones alone where there are any."""
    known = [saving for saving in savings if saving is not None]
    measured = [saving for saving in known if saving.measured]
    known = measured or known
    if not known:
        return None
    totals = [saving.total for saving in known if saving.total is not None]
    reasoning = [saving.reasoning for saving in known if saving.reasoning is not None]
    low, high = interval(totals) if measured else (None, None)
    return Saving(
        replies=len(totals),
        reasoning_replies=len(reasoning),
        total=sum(totals) if totals else None,
        low=low,
        high=high,
        reasoning=sum(reasoning) if reasoning else None,
        measured=bool(measured),
    )


def saved_fields(saving: Saving | None) -> dict[str, Any]:
    """As JSON has it. ``saved_against``: the asker's own native replies, or the server's baseline;
    ``saved_tokens`` is of reasoning, ``total_saved_tokens`` of all tokens, with its interval; each
    has the number of its rows."""
    names = ("saved_tokens", "total_saved_tokens", "total_saved_low", "total_saved_high")
    if saving is None:
        rows = {"saved_rows": 0, "total_saved_rows": 0}
        return {"saved_against": None, **rows, **dict.fromkeys(names)}
    values = (saving.reasoning, saving.total, saving.low, saving.high)
    against = "native rows" if saving.measured else "server's baseline"
    fields = dict(zip(names, values, strict=True))
    rows = {"saved_rows": saving.reasoning_replies, "total_saved_rows": saving.replies}
    return {"saved_against": against, **rows, **fields}


def interval(differences: Sequence[float]) -> tuple[float | None, float | None]:
    """The 95 % interval of the sum of paired differences: percentiles of resampled sums (the
    paired bootstrap). The same on every call; none of fewer than :data:`LEAST_FOR_INTERVAL`, nor
    of differences that are all alike, which tell nothing of how much others differ."""
    n = len(differences)
    if n < LEAST_FOR_INTERVAL or min(differences) == max(differences):
        return None, None
    draw = random.Random(0)
    resamples = max(200, min(_MOST_RESAMPLES, _MOST_DRAWS // n))
    sums = sorted(sum(draw.choices(differences, k=n)) for _ in range(resamples))
    cut = int(resamples * (1 - _CONFIDENCE) / 2)
    return sums[cut], sums[-1 - cut]
