"""Other ways to shorten a trace to a budget: random atoms, head and tail, nothing at all.

Each gives the text and which characters of the original it kept. A shortened text is judged against
its original: whole formulas, broken atoms. Knows no compressor and no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from extracot_training.compression.budget import TokenCounter, spend
from extracot_training.compression.segment import FORMULAS, Atom, Kind, spans_of


@dataclass(frozen=True, slots=True)
class Shortened:
    """A shortened text, the character spans it kept, and its share of tokens."""

    text: str
    spans: list[tuple[int, int]]
    realised: float


def random_atoms(
    text: str, atoms: Sequence[Atom], ratios: Sequence[float], counter: TokenCounter, seed: str
) -> list[Shortened]:
    """Atoms in random order until the budget is spent; the same order for all ratios."""
    rng = Random(seed)
    scores = [rng.random() for _ in atoms]
    return [
        Shortened(one.text, spans_of(atoms, one.kept), one.realised)
        for one in spend(text, atoms, scores, ratios, counter)
    ]


def head_tail(text: str, ratios: Sequence[float], tokenizer: Any) -> list[Shortened]:
    """The first and the last half of the budget, cut between tokens."""
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
    found = []
    for ratio in ratios:
        budget = max(1, round(len(offsets) * ratio))
        if budget >= len(offsets):
            found.append(Shortened(text, [(0, len(text))] if text else [], 1.0))
            continue
        head = offsets[budget - budget // 2 - 1][1]
        tail = offsets[len(offsets) - budget // 2][0] if budget // 2 else len(text)
        spans = [(start, end) for start, end in ((0, head), (tail, len(text))) if start < end]
        joined = f"{text[:head].rstrip()} {text[tail:].lstrip()}".strip()
        found.append(Shortened(joined, spans, budget / len(offsets)))
    return found


@dataclass(frozen=True, slots=True)
class Wholeness:
    """``recall``: share of the original's different formulas that are there whole (1.0 if it has
    none). ``broken``: formulas and numbers of which a part was kept and a part was not."""

    recall: float
    broken: int


def wholeness(atoms: Sequence[Atom], spans: Sequence[tuple[int, int]]) -> Wholeness:
    """By character: ``spans`` (sorted, disjoint) are what was kept of the text of ``atoms``. White
    space does not count: a cut at white space that leaves out only a space breaks nothing."""
    there = {place for start, end in spans for place in range(start, end)}
    whole: set[str] = set()
    every: set[str] = set()
    broken = 0
    for atom in atoms:
        if atom.kind in (Kind.WORD, Kind.SPACE):
            continue
        signs = {i for i, sign in enumerate(atom.body, start=atom.start) if not sign.isspace()}
        broken += bool(signs & there and signs - there)
        if atom.kind in FORMULAS:
            every.add(atom.body)
            if signs <= there:
                whole.add(atom.body)
    return Wholeness(len(whole) / len(every) if every else 1.0, broken)
