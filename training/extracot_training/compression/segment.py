"""Cuts a reasoning trace into atoms: the pieces that are kept or dropped whole.

Atoms are formulas (LaTeX, `\\boxed{}`, plain-text equations such as ``35 × 3 = 105``), numbers with
their units, and words. White space belongs to the atom before it, so the atoms' texts put together
are the text again, for any text. Cutting takes time linear in the length. Atoms group into
sentences. This module does not know budgets, tokens or models.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import zip_longest

from extracot_training.math_text.clauses import whole_claims
from extracot_training.math_text.latex import latex_spans
from extracot_training.math_text.lexemes import UNSPACED as _UNSPACED
from extracot_training.math_text.plain_math import expressions


class Kind(StrEnum):
    """What an atom is. ``SPACE`` is white space before the first atom, never anything else."""

    MATH = "math"
    BOXED = "boxed"
    EQUATION = "equation"
    NUMBER = "number"
    WORD = "word"
    SPACE = "space"


FORMULAS = frozenset({Kind.MATH, Kind.BOXED, Kind.EQUATION})

# A run of letters longer than this is no word (Thai prose, base64, a megabyte of "a"): it is cut,
# so that no atom but a formula outgrows an encoder's window.
MAX_WORD = 64
# What clings to a formula without a space goes with it, up to this length: "$n$-th", "($x$),".
MAX_GLUE = 16

# Scripts written without spaces: one character is one atom, with the punctuation after it.
_UNSPACED_PUNCTUATION = r"\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f\uff09\u300d\u300f\u201d"
_WORD = re.compile(
    rf"[{_UNSPACED}][{_UNSPACED_PUNCTUATION}]*"
    rf"|[^\s{_UNSPACED}]{{1,{MAX_WORD}}}"
)
_GLUED_AFTER = re.compile(rf"[^\s{_UNSPACED}]+")
_END = re.compile(r"[.!?。！？]['\")\]*”’」』]*$")
_ABBREVIATION = re.compile(r"^(?:[A-Za-z]|e\.g|i\.e|etc|vs|Mr|Mrs|Ms|Dr|No|Eq|Fig|approx)\.$")
_LIST_NUMBER = re.compile(r"^\(?\d{1,2}\.$")


@dataclass(frozen=True, slots=True)
class Atom:
    """``text == trace[start:end]``, trailing white space included; ``body`` is without it."""

    start: int
    end: int
    kind: Kind
    text: str

    @property
    def body(self) -> str:
        return self.text if self.kind is Kind.SPACE else self.text.rstrip()

    @property
    def trail(self) -> str:
        """White space behind the body."""
        return self.text[len(self.body) :]

    @property
    def body_end(self) -> int:
        return self.start + len(self.body)


def segment(text: str) -> list[Atom]:
    """Atoms of ``text`` in order; their texts concatenated are ``text``. Empty text: no atoms."""
    bodies = [(start, kind) for start, _, kind in _bodies(text)]
    if text and (not bodies or bodies[0][0] > 0):
        bodies.insert(0, (0, Kind.SPACE))
    stops = [start for start, _ in bodies[1:]] + [len(text)]
    return [
        Atom(start, stop, kind, text[start:stop])
        for (start, kind), stop in zip(bodies, stops, strict=False)
    ]


def join(atoms: Sequence[Atom], keep: Iterable[int]) -> str:
    """The text of the kept atoms (indices). All atoms give back the text itself.

    Where atoms are left out, one space stands, or one line break if the gap held one and the text
    before it does not end in one already. The result ends without white space unless the text's
    own end is kept.
    """
    kept = sorted(set(keep))
    parts: list[str] = []
    for index, following in zip_longest(kept, kept[1:], fillvalue=len(atoms)):
        atom = atoms[index]
        if following == index + 1:
            parts.append(atom.text)
        elif following == len(atoms):
            parts.append(atom.body)
        else:
            broken = any("\n" in atoms[i].trail for i in range(index, following))
            parts.append(atom.body + ("\n" if broken else " "))
    return "".join(parts)


def spans_of(atoms: Sequence[Atom], keep: Iterable[int]) -> list[tuple[int, int]]:
    """Character spans of the kept atoms, neighbours merged: sorted and disjoint."""
    spans: list[tuple[int, int]] = []
    for index in sorted(set(keep)):
        atom = atoms[index]
        if spans and spans[-1][1] == atom.start:
            spans[-1] = (spans[-1][0], atom.end)
        else:
            spans.append((atom.start, atom.end))
    return spans


def atoms_in(atoms: Sequence[Atom], spans: Sequence[tuple[int, int]]) -> list[int]:
    """Indices of the atoms whose body overlaps one of ``spans`` (sorted, disjoint)."""
    starts = [start for start, _ in spans]
    found: list[int] = []
    for index, atom in enumerate(atoms):
        position = bisect_right(starts, max(atom.start, atom.body_end - 1)) - 1
        if position >= 0 and spans[position][1] > atom.start:
            found.append(index)
    return found


def sentences(atoms: Sequence[Atom]) -> list[range]:
    """Ranges of atom indices, in order, covering all atoms. A sentence never ends inside a formula,
    a decimal or a number and its unit, because those are atoms."""
    found: list[range] = []
    begin = 0
    for index, atom in enumerate(atoms):
        if index + 1 == len(atoms) or _ends(atom, first=index == begin):
            found.append(range(begin, index + 1))
            begin = index + 1
    return found


def _ends(atom: Atom, *, first: bool) -> bool:
    if "\n" in atom.trail:
        return True
    body = atom.body
    if not _END.search(body):
        return False
    if atom.kind is Kind.WORD:
        return not _ABBREVIATION.match(body)
    if atom.kind in FORMULAS:
        return True
    return not (first and _LIST_NUMBER.match(body))


def _bodies(text: str) -> list[tuple[int, int, Kind]]:
    """(start, end, kind) of every atom without white space: sorted, disjoint, covering the rest."""
    latex = {(start, end): Kind(kind) for start, end, kind in latex_spans(text)}
    lexemes, found = expressions(text, list(latex))
    special = [
        (start, end, latex.get((start, end), Kind.EQUATION if formula else Kind.NUMBER))
        for start, end, formula in whole_claims(lexemes, found)
    ]
    bodies: list[tuple[int, int, Kind]] = []
    at = 0
    for index, (start, end, kind) in enumerate(special):
        words = [(m.start(), m.end(), Kind.WORD) for m in _WORD.finditer(text, at, start)]
        # An opening bracket or quote right before the formula goes with it.
        if (
            words
            and words[-1][1] == start
            and not any(map(str.isalnum, text[words[-1][0] : start]))
        ):
            start = words.pop()[0]
        bodies.extend(words)
        limit = special[index + 1][0] if index + 1 < len(special) else len(text)
        at = _glue_end(text, end, limit)
        bodies.append((start, at, kind))
    bodies.extend((m.start(), m.end(), Kind.WORD) for m in _WORD.finditer(text, at))
    return bodies


def _glue_end(text: str, end: int, limit: int) -> int:
    match = _GLUED_AFTER.match(text, end, min(limit, end + MAX_GLUE + 1))
    if match is None:
        return end
    if match.end() - end <= MAX_GLUE:
        return match.end()
    # Too long to be a suffix: take the punctuation only.
    stop = next((at for at in range(end, match.end()) if text[at].isalnum()), match.end())
    return min(stop, end + MAX_GLUE)
