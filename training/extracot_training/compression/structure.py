"""Spends a token budget on whole steps, best first; words go only where a step cannot fit.

Steps are kept or dropped whole as long as that comes near enough to the budget. Where it doesn't
(the first step is larger than the budget, or one step is a large share of the trace), the last
step taken loses atoms, the least important first; what negates, conditions or counts in it stays
with it. Kept sets are nested over ratios, atoms stay whole, and sizes are measured on the joined
text. This module does not know where scores come from.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate

from extracot_training.compression.budget import (
    TOLERANCE,
    Ladder,
    Selection,
    TokenCounter,
    checked_ratio,
)
from extracot_training.compression.segment import FORMULAS, Atom, Kind, join
from extracot_training.compression.steps import step_at, steps
from extracot_training.compression.takebacks import protected_words

# How far a text of whole steps may be from its budget before a step is thinned.
NEAR = TOLERANCE / 2


@dataclass(frozen=True, slots=True)
class Outline:
    """A trace's atoms by step: ``members[i]`` are the atoms of step ``i`` (white space before the
    first atom apart), ``protected`` those that hold words of negation, condition or quantity."""

    atoms: tuple[Atom, ...]
    spans: tuple[tuple[int, int], ...]
    members: tuple[tuple[int, ...], ...]
    protected: frozenset[int]

    def texts(self) -> list[str]:
        """The text of each step, as its atoms have it."""
        return ["".join(self.atoms[i].text for i in own) for own in self.members]


def outline(text: str, atoms: Sequence[Atom]) -> Outline:
    """Steps of ``text`` as sets of atoms. An atom belongs to the step in which it begins."""
    spans = steps(text)
    members: list[list[int]] = [[] for _ in spans]
    for index, atom in enumerate(atoms):
        if atom.kind is not Kind.SPACE:
            members[step_at(spans, atom.start)].append(index)
    starts = [atom.start for atom in atoms]
    guarded = {
        at
        for begin, end in protected_words(text)
        for at in range(max(0, bisect_left(starts, begin + 1) - 1), bisect_left(starts, end))
    }
    return Outline(
        tuple(atoms), tuple(spans), tuple(map(tuple, members)),
        frozenset(i for i in guarded if atoms[i].kind is Kind.WORD),
    )  # fmt: skip


def spend_on_steps(
    text: str,
    plan: Outline,
    order: Sequence[int],
    weights: Sequence[float],
    ratios: Sequence[float],
    counter: TokenCounter,
    *,
    always: Collection[int] = (),
) -> list[Selection]:
    """One selection per ratio: the first steps of ``order`` whose joint size is near the budget.

    ``order`` are all steps, most needed first; ``weights`` say how much an atom matters within its
    step. Atoms in ``always`` stay whatever the budget. Raises :class:`RatioError`.
    """
    for ratio in ratios:
        checked_ratio(ratio)
    atoms = plan.atoms
    costs = counter.per_atom(text, atoms)
    first = sorted(i for i in always if atoms[i].kind is not Kind.SPACE)
    flat, ends = list(first), list[int]()
    for step in order:
        flat += _by_importance(plan, step, weights, frozenset(first))
        if not ends or ends[-1] < len(flat):
            ends.append(len(flat))
    least = max(min(1, len(flat)), len(first))
    ladder = Ladder(atoms, flat, list(accumulate(costs[i] for i in flat)), counter, least)
    full = counter.count(text)
    found = []
    for ratio in ratios:
        taken = _taken(ladder, ends, ratio * full, NEAR * full) if ratio < 1 else len(flat)
        whole = taken == len(flat)
        kept = tuple(range(len(atoms)) if whole else sorted(flat[:taken]))
        size = full if whole else ladder.size(taken)
        found.append(Selection(ratio, kept, join(atoms, kept), size, full))
    return found


def _taken(ladder: Ladder, ends: Sequence[int], budget: float, near: float) -> int:
    """How many atoms: up to the end of a step if that is near the budget, else in between."""
    best = ladder.nearest(budget)
    place = bisect_left(ends, best)
    around = [at for at in ends[max(0, place - 1) : place + 2] if at >= ladder.least]
    if not around:
        return best
    end = min(around, key=lambda at: (abs(ladder.size(at) - budget), at))
    return end if abs(ladder.size(end) - budget) <= near else best


def _by_importance(
    plan: Outline, step: int, weights: Sequence[float], taken: frozenset[int]
) -> list[int]:
    """Atoms of a step: what is protected, then formulas and numbers, then words by weight."""

    def rank(index: int) -> tuple[bool, bool, float, int]:
        solid = plan.atoms[index].kind in FORMULAS or plan.atoms[index].kind is Kind.NUMBER
        return (index not in plan.protected, not solid, -weights[index], index)

    return sorted((i for i in plan.members[step] if i not in taken), key=rank)
