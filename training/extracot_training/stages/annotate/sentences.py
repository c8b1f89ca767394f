"""Groups atoms into sentences. A sentence never ends inside a formula, a decimal or a number and
its unit, because those are atoms. Knows nothing of tokens or annotators."""

from __future__ import annotations

import re
from collections.abc import Sequence

from extracot_training.compression.segment import FORMULAS, Atom, Kind

_END = re.compile(r"[.!?。！？]['\")\]*”’」』]*$")
_ABBREVIATION = re.compile(r"^(?:[A-Za-z]|e\.g|i\.e|etc|vs|Mr|Mrs|Ms|Dr|No|Eq|Fig|approx)\.$")
_LIST_NUMBER = re.compile(r"^\(?\d{1,2}\.$")


def sentences(atoms: Sequence[Atom]) -> list[range]:
    """Ranges of atom indices, in order, covering all atoms."""
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
