"""From the rows of a calibration to a budget card: ratios, accuracies, and what is dominated.

Everything is paired: a level's replies with the native ones to the same problems and seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from extracot.card import BudgetCard, LevelCard
from extracot.figures import (
    AccuracySummary,
    BaselineBin,
    BaselineCard,
    RatioSummary,
    ReplySummary,
)
from extracot.sketch import LEAST_PROBLEMS, PromptSketch
from extracot.usage import ratio_of_sums
from extracot_client.calibration import NATIVE, NONE, Level, token_summary
from extracot_client.errors import InvalidArgumentError
from extracot_client.intervals import (
    Estimate,
    by_chance,
    mean_of,
    paired_shares,
    percentile,
    share,
)
from extracot_client.types import BudgetCardPage, SweepRow

_CHANCE = 0.025  # one side of 5 %
Rows = Mapping[str, Sequence[SweepRow]]
"""Judged rows by the name of what they were asked at; seeds are in the order of their batches."""


@dataclass(frozen=True, slots=True)
class Side:
    """One kind of reply by problem: the means of its tokens and its verdicts over the seeds."""

    tokens: Mapping[str, float]
    right: Mapping[str, float]


def make_card(
    page: BudgetCardPage,
    levels: Sequence[Level],
    rows: Rows,
    bins: Sequence[BaselineBin],
    about: Mapping[str, Any],
    questions: Iterable[str],
) -> BudgetCard:
    """The card; ``about`` is said of the calibration itself, ``sampling`` and ``dataset`` of it.

    ``questions`` are the problems as they were sent: of prompts like them, the card claims savings.

    A level at which nothing reasons is left out: ``none`` is that. Raises
    :class:`InvalidArgumentError` where that leaves fewer than two.
    """
    sides = {name: _side(found) for name, found in rows.items()}
    every = [_level(level, rows, str(about["dataset"])) for level in levels]
    made = [level for level in every if level is not None]
    if len(made) < 2:
        raise InvalidArgumentError(
            f"{page.model} does not reason at two levels or more, so there is nothing to put on a "
            "card"
        )
    names = [level.name for level in made]
    marked = [
        level.model_copy(update={"dominated_by": dominator(level.name, names, sides)})
        for level in made
    ]
    prompt, sketch = page.prompt, PromptSketch.of(questions)
    data = {
        "tokenizer_hash": prompt["tokenizer_hash"],
        "base_model": page.model,
        "model": page.model,
        "system_prompt": prompt.get("system_prompt"),
        "instruction": prompt.get("instruction") or "",
        "think_start": prompt["think_start"],
        "think_end": prompt["think_end"],
        "sampling": about["sampling"],
        "levels": [level.model_dump() for level in sorted(marked, key=_order)],
        "baseline": BaselineCard(native=list(bins)).model_dump(),
        "prompts": None if sketch is None else sketch.model_dump(),
        "native": _summary(rows[NATIVE]).model_dump(),
        "none": _summary(rows[NONE]).model_dump(),
        "provenance": {"stages": ["calibrate"], "config_hashes": {}, "git_revision": None},
        "calibration": dict(about),
    }
    return BudgetCard.model_validate(data)


def _order(level: LevelCard) -> tuple[float, bool]:
    """By length; of two alike the effort first, whose replies end by themselves."""
    return level.expected_ratio, level.enforced_by == "cap"


def dominator(name: str, levels: Sequence[str], sides: Mapping[str, Side]) -> str | None:
    """What is cheaper than a level and more accurate, both beyond what chance could do.

    Differences are of the same problems, of :data:`LEAST_PROBLEMS` or more: both intervals of 95 %
    lie above 0, and so does the exact sign test's, which holds whatever the differences are like.
    Of several the most accurate one is told.
    """
    mine, found = sides[name], list[tuple[float, str]]()
    for other in (NONE, *levels):
        if other == name or other not in sides:
            continue
        theirs = sides[other]
        saved = _differences(mine.tokens, theirs.tokens)
        gained = _differences(theirs.right, mine.right)
        if min(len(saved), len(gained)) < LEAST_PROBLEMS:
            continue
        if max(by_chance(saved), by_chance(gained)) > _CHANCE:
            continue
        tokens, gain = mean_of([one] for one in saved), paired_shares(gained, [0.0] * len(gained))
        if tokens is None or gain is None:
            continue
        # No interval: all problems save the same.
        if (tokens.mean if tokens.low is None else tokens.low) > 0 and gain.low > 0:
            found.append((gain.mean, other))
    return max(found)[1] if found else None


def undecided(rows: Rows) -> int:
    """Replies with a known answer that the grader cannot judge."""
    return sum(
        row.correct is None and row.gold is not None for found in rows.values() for row in found
    )


def accuracy(rows: Sequence[SweepRow]) -> Estimate | None:
    """The share of right answers among those that could be judged."""
    groups: dict[str, list[bool]] = {}
    for row in rows:
        if row.correct is not None:
            groups.setdefault(row.problem_id, []).append(row.correct)
    return share(list(groups.values()))


def _side(rows: Sequence[SweepRow]) -> Side:
    tokens: dict[str, list[float]] = {}
    right: dict[str, list[float]] = {}
    for row in rows:
        tokens.setdefault(row.problem_id, []).append(float(row.reasoning_tokens or 0))
        if row.correct is not None:
            right.setdefault(row.problem_id, []).append(float(row.correct))
    means = [{key: sum(v) / len(v) for key, v in part.items()} for part in (tokens, right)]
    return Side(means[0], means[1])


def _differences(ours: Mapping[str, float], theirs: Mapping[str, float]) -> list[float]:
    return [ours[key] - theirs[key] for key in ours if key in theirs]


def _level(level: Level, rows: Rows, dataset: str) -> LevelCard | None:
    own = rows[level.name]
    pairs = [
        (row.reasoning_tokens or 0, full.reasoning_tokens or 0)
        for row, full in zip(in_order(own), in_order(rows[NATIVE]), strict=True)
    ]
    mean = ratio_of_sums([part for part, _ in pairs], [whole for _, whole in pairs])
    ratios = [part / whole for part, whole in pairs if whole]
    if not mean:
        return None
    return LevelCard(
        name=level.name,
        enforced_by=level.enforced_by,
        effort=level.effort,
        ratio=level.ratio,
        realised=RatioSummary(mean=mean, p10=percentile(ratios, 0.1), p90=percentile(ratios, 0.9)),
        accuracy=_accuracy(own),
        n=len({row.problem_id for row in own}),
        dataset=dataset,
    )


def in_order(rows: Sequence[SweepRow]) -> list[SweepRow]:
    """By problem, and within one by the order of the seeds: what pairs go by."""
    return sorted(rows, key=lambda row: row.problem_id)  # stable, so seeds stay as they were asked


def _accuracy(rows: Sequence[SweepRow]) -> AccuracySummary | None:
    found = accuracy(rows)
    return (
        None if found is None else AccuracySummary(mean=found.mean, low=found.low, high=found.high)
    )


def _summary(rows: Sequence[SweepRow]) -> ReplySummary:
    counts = [row.reasoning_tokens or 0 for row in rows]
    return ReplySummary(
        n=len({row.problem_id for row in rows}),
        reasoning=token_summary(counts),
        accuracy=_accuracy(rows),
        reasoned=sum(count > 0 for count in counts) / len(counts),
    )
