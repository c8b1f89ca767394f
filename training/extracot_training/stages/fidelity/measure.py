"""Judges shortened texts against their originals: whole formulas, broken atoms. No model here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from extracot_training.compression.segment import FORMULAS, Atom, Kind


@dataclass(frozen=True, slots=True)
class Wholeness:
    """``recall``: share of the original's different formulas that are there whole (1.0 if it has
    none). ``broken``: formulas and numbers of which a part was kept and a part was not."""

    recall: float
    broken: int


def wholeness(atoms: Sequence[Atom], spans: Sequence[tuple[int, int]]) -> Wholeness:
    """By character: ``spans`` (sorted, disjoint) are what was kept of the text of ``atoms``."""
    whole: set[str] = set()
    every: set[str] = set()
    broken = 0
    at = 0
    for atom in atoms:
        if atom.kind in (Kind.WORD, Kind.SPACE):
            continue
        while at < len(spans) and spans[at][1] <= atom.start:
            at += 1
        kept, total = _kept_signs(atom, spans, at)
        broken += 0 < kept < total
        if atom.kind in FORMULAS:
            every.add(atom.body)
            if kept == total:
                whole.add(atom.body)
    return Wholeness(len(whole) / len(every) if every else 1.0, broken)


def _kept_signs(atom: Atom, spans: Sequence[tuple[int, int]], at: int) -> tuple[int, int]:
    """How many of the atom's signs are kept, and how many it has. White space does not count: a cut
    at white space that leaves out only a space breaks nothing."""
    kept = total = 0
    for offset, sign in enumerate(atom.body, start=atom.start):
        if sign.isspace():
            continue
        while at < len(spans) and spans[at][1] <= offset:
            at += 1
        total += 1
        kept += at < len(spans) and spans[at][0] <= offset
    return kept, total
