"""Traces whose steps are marked, and what a shortened trace keeps of them. Pure: spans and marks
in, figures out; it does not know who shortened.

A marked trace says which steps its answer needs, each with the steps that say the same, which are
taken back later, and which words within needed steps must not go. Steps are numbered as
:func:`extracot_training.compression.steps.steps` cuts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from extracot_training.compression.reading import read_step
from extracot_training.compression.segment import Atom, atoms_in
from extracot_training.compression.steps import steps
from extracot_training.compression.structure import Outline
from extracot_training.errors import StageError
from extracot_training.pipeline.records import NonEmpty, Record, read_rows

Span = tuple[int, int]


class MarkedTrace(Record, extra="ignore"):
    """One trace as it is written. ``style`` and ``topic`` are for reports only."""

    id: NonEmpty
    question: NonEmpty
    answer: NonEmpty
    thinking: NonEmpty
    style: str = ""
    topic: str = ""

    @property
    def key(self) -> str:
        return self.id


class Marks(Record, extra="ignore"):
    """Marks of one trace. ``needed``: for each thing needed the steps of which any one states it;
    ``revoked``: steps taken back and not used again; ``protected``: (step, exact words)."""

    id: NonEmpty
    needed: tuple[tuple[int, ...], ...]
    revoked: tuple[int, ...] = ()
    protected: tuple[tuple[int, str], ...] = ()

    @property
    def key(self) -> str:
        return self.id


@dataclass(frozen=True, slots=True)
class Kept:
    """What is left of one trace: ``needed`` of ``entries`` kept whole, ``revoked`` of
    ``revocable`` kept for the most part, ``contradictions`` (names with two values, one of them
    revoked), ``negations`` lost of ``protected`` within needed steps that are kept."""

    entries: int
    needed: int
    revocable: int
    revoked: int
    contradictions: int
    protected: int
    negations: int


def read_marked(traces: Path, marks: Sequence[Path]) -> list[tuple[MarkedTrace, Marks]]:
    """Traces with their marks, in the traces' order; those without marks are left out. With
    several readers' files, their :func:`agreed` marks. Raises ``RowError``, ``StageError``."""
    readers = [{row.id: row for row in read_rows(path, Marks)} for path in marks]
    found = []
    for trace in read_rows(traces, MarkedTrace):
        own = [reader[trace.id] for reader in readers if trace.id in reader]
        if own and len(own) == len(readers):
            _check(trace, own, traces)
            found.append((trace, agreed(own)))
    return found


def _check(trace: MarkedTrace, readers: Sequence[Marks], path: Path) -> None:
    """Raises :class:`StageError` if marks name a step that the trace does not have."""
    count = len(steps(trace.thinking))
    for marks in readers:
        named = {step for entry in marks.needed for step in entry} | set(marks.revoked)
        named |= {step for step, _ in marks.protected}
        if beyond := sorted(step for step in named if not 0 <= step < count):
            raise StageError(f"{path}: {trace.id}: marks name step {beyond[0]} of {count}")
        if () in marks.needed:
            raise StageError(f"{path}: {trace.id}: a needed entry names no step")


def agreed(readers: Sequence[Marks]) -> Marks:
    """What all readers mark: an entry of the first matches those of the others with which it
    shares a step, and then has the alternatives of all; revoked are the steps that all revoke.
    Words are protected if one reader says so.

    >>> agreed([Marks(id="a", needed=((1,), (4, 9))), Marks(id="a", needed=((9, 12),))]).needed
    ((4, 9, 12),)
    """
    first, *others = readers
    entries = []
    for entry in first.needed:
        united = set(entry)
        matches = [[set(e) for e in other.needed if set(entry) & set(e)] for other in others]
        if all(matches):
            entries.append(tuple(sorted(united.union(*(e for found in matches for e in found)))))
    revoked = set(first.revoked).intersection(*(other.revoked for other in others))
    within = {step for entry in entries for step in entry}
    words = {one for reader in readers for one in reader.protected if one[0] in within}
    return Marks(
        id=first.id, needed=tuple(dict.fromkeys(entries)), revoked=tuple(sorted(revoked)),
        protected=tuple(sorted(words)),
    )  # fmt: skip


def judge(trace: MarkedTrace, marks: Marks, plan: Outline, kept: Sequence[Span]) -> Kept:
    """Holds kept spans (sorted, disjoint) against the marks."""
    shares = [kept_share(trace.thinking, span, kept) for span in plan.spans]
    whole = {step for step, share in enumerate(shares) if share == 1.0}
    there = {step for step, share in enumerate(shares) if share >= 0.5}
    words = [one for one in marks.protected if one[0] in there]
    return Kept(
        entries=len(marks.needed),
        needed=sum(any(step in whole for step in entry) for entry in marks.needed),
        revocable=len(marks.revoked),
        revoked=sum(step in there for step in marks.revoked),
        contradictions=_contradictions(plan, set(marks.revoked), kept),
        protected=len(words),
        negations=sum(not _says(trace.thinking, plan.spans[s], text, kept) for s, text in words),
    )


def kept_share(text: str, span: Span, kept: Sequence[Span]) -> float:
    """Share of a step's characters, white space apart, that are kept (1.0 of none)."""
    total = sum(not character.isspace() for character in text[slice(*span)])
    left = sum(
        not character.isspace()
        for begin, end in kept
        if begin < span[1] and end > span[0]
        for character in text[max(begin, span[0]) : min(end, span[1])]
    )
    return left / total if total else 1.0


def needed_steps(marks: Marks, costs: Sequence[int]) -> list[int]:
    """The cheapest step of each entry; one that serves several entries once."""
    return sorted({min(entry, key=lambda step: (costs[step], step)) for entry in marks.needed})


def _says(text: str, span: Span, words: str, kept: Sequence[Span]) -> bool:
    """Whether the words stand wholly in the kept part of the step, wherever they occur in it."""
    at = text.find(words, *span)
    if at < 0:
        return True
    while at >= 0:
        if kept_share(text, (at, at + len(words)), kept) == 1.0:
            return True
        at = text.find(words, at + 1, span[1])
    return False


def _contradictions(plan: Outline, revoked: set[int], kept: Sequence[Span]) -> int:
    """Names to which what is left gives two values: one in a revoked step, one in another."""
    left = frozenset(atoms_in(plan.atoms, kept))
    values: dict[bool, dict[str, set[str]]] = {True: {}, False: {}}
    for step, members in enumerate(plan.members):
        atoms: list[Atom] = [plan.atoms[i] for i in members if i in left]
        for name, value in read_step(atoms).defines if atoms else ():
            values[step in revoked].setdefault(name, set()).add(value)
    return sum(bool(own - values[False].get(name, own)) for name, own in values[True].items())
