"""Leaving out questions that occur twice, and placing each row in a split. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from extracot_training.config.problems import Splits
from extracot_training.math_text.normalise import normal_form, unit_interval, words
from extracot_training.pipeline.records import Problem, Split

# When a question is in several splits, the copy that must not be trained on is the one that stays.
_PRECEDENCE: dict[Split, int] = {"test": 0, "heldout_families": 1, "dev": 2, "train": 3}


@dataclass(frozen=True, slots=True)
class Deduplicated:
    """``rows`` in their old order. ``dropped`` counts per source the copies left out;
    ``conflicts`` those among them whose gold differs from the kept copy's; ``same_template`` the
    kept questions that equal an earlier one when numbers are masked (these are not dropped)."""

    rows: list[Problem]
    dropped: Counter[str]
    conflicts: list[tuple[str, str]]
    same_template: int


def deduplicate(rows: Sequence[Problem]) -> Deduplicated:
    """Keep one row per question (compared in normal form): the one in the stricter split, else the
    first. ``conflicts`` holds (kept id, dropped id)."""
    kept: dict[str, int] = {}
    dropped: Counter[str] = Counter()
    conflicts = []
    for index in sorted(range(len(rows)), key=lambda i: _PRECEDENCE[rows[i].split]):
        row = rows[index]
        first = kept.setdefault(normal_form(row.question), index)
        if first != index:
            dropped[row.source] += 1
            if rows[first].answer != row.answer:
                conflicts.append((rows[first].id, row.id))
    staying = [rows[index] for index in sorted(kept.values())]
    templates = {tuple(words(row.question, mask_numbers=True)) for row in staying}
    return Deduplicated(staying, dropped, conflicts, len(staying) - len(templates))


def assign_split(problem_id: str, splits: Splits) -> Split:
    """``dev``, ``test`` or ``train`` by id and seed alone: adding rows moves no other row."""
    place = unit_interval("split", splits.seed, problem_id)
    if place < splits.test:
        return "test"
    if place < splits.test + splits.dev:
        return "dev"
    return "train"
