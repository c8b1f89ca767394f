"""The ``rules`` annotator: deterministic, free, for tests and for a first compressor.

It keeps what an answer is built from: the target's definition, the earliest correct form of each
equation on the way to the answer, the words that name them, relations and negations, the final
answer. It drops narration, hedges, repeats, double-checks and equations that lead nowhere, among
them those about somebody or something else than what was asked (:mod:`annotate.chain`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from extracot_training.compression.final_answer import final_atoms
from extracot_training.compression.segment import FORMULAS, Atom, Kind
from extracot_training.math_text.equations import Equation, numbers_in, read_equation
from extracot_training.stages.annotate.base import Job, KeepLabels
from extracot_training.stages.annotate.chain import Link, Mention, leading_to, other_people
from extracot_training.stages.annotate.sentences import sentences

VERSION = 2

_WORD = re.compile(r"[^\W\d_]+(?:'[a-z]+)?")
_FUNCTION_WORDS = """
a an the this that these those it its he she they them his her their we us our you i me my is are
was were be been being am do does did done has have had having will would can could should may might
must to of in on at by for from with as and or but if so then than now here there what which who
whose when where how why just also too very really let's lets let get gets got make makes need needs
want know see go going say says first next finally step okay ok well hmm wait right alright
actually maybe perhaps again still already means mean gives give given find figure out up down into
about over all one some any both up only everything problem question answer think thinking read
carefully time note compute computing start begin work
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
_RELATION_WORDS = """
not no never none without except each per every twice half double triple less more fewer remaining
left total equally
"""
RELATION_WORDS = frozenset(_RELATION_WORDS.split())
_CHECK = re.compile(
    r"\b(?:double[- ]?check\w*|check(?:ing|s|ed)?|verif\w+|confirm\w*|sanity|make sure|going back"
    r"|once more|look(?:s|ing)? (?:right|good|back))\b",
    re.IGNORECASE,
)
_HEDGE = re.compile(
    r"\b(?:hmm+|wait|maybe|perhaps|not sure|i think|let me think|okay|alright|i wonder)\b",
    re.IGNORECASE,
)
_TARGET = re.compile(
    r"\b(?:find|asks?|asked|asking|want(?:s|ed)?|looking for|how (?:many|much)|goal|determine)\b",
    re.IGNORECASE,
)

_FINAL, _EQUATION, _NAME, _TARGET_WORD, _DROPPED = 1.0, 0.9, 0.6, 0.5, 0.0


class RulesAnnotator:
    """See the module. ``context`` words at most are kept before and after an equation."""

    def __init__(self, context: int = 4) -> None:
        self._context = context

    @property
    def name(self) -> str:
        return f"rules-{VERSION}"

    def annotate(self, jobs: Sequence[Job]) -> Iterator[KeepLabels]:
        for job in jobs:
            scores = self._scores(job)
            keep = tuple(index for index, score in enumerate(scores) if score > 0)
            yield KeepLabels(keep, tuple(scores))

    def _scores(self, job: Job) -> list[float]:
        atoms = job.atoms
        scores = [_DROPPED] * len(atoms)
        parts = sentences(atoms)
        texts = ["".join(atoms[i].text for i in part) for part in parts]
        checking = _checking(parts, texts, atoms)
        about = [_about(atoms, part, job.trace.question) for part in parts]
        decisive = _decisive(job, parts, checking, about)
        asked = frozenset(word.lower() for word in _WORD.findall(job.trace.question))
        target_seen = False
        for place, (part, text) in enumerate(zip(parts, texts, strict=True)):
            equations = [index for index in part if index in decisive]
            for index in equations:
                scores[index] = _EQUATION
                self._name(atoms, part, index, scores)
            if equations:
                self._substitutions(atoms, parts, about, place, equations, scores)
            elif not checking[place] and not target_seen and _TARGET.search(text):
                target_seen = True
                for index in part:
                    if _content(atoms[index], asked):
                        scores[index] = _TARGET_WORD
        for index in final_atoms(atoms, job.trace.gold):
            scores[index] = _FINAL
        return scores

    def _name(self, atoms: Sequence[Atom], part: range, at: int, scores: list[float]) -> None:
        """Keep the words of the sentence that say what the equation computes."""
        before = [i for i in range(at - 1, part.start - 1, -1) if _content(atoms[i], None)]
        after = [i for i in range(at + 1, part.stop) if _content(atoms[i], None)]
        chosen = (before[: self._context] + after)[: self._context]
        for index in chosen:
            scores[index] = max(scores[index], _NAME)

    def _substitutions(
        self,
        atoms: Sequence[Atom],
        parts: Sequence[range],
        about: Sequence[Mention],
        place: int,
        equations: Sequence[int],
        scores: list[float],
    ) -> None:
        """Keep the sentences next to a decisive equation that put its numbers in or take its result
        out: their numbers, and the words naming them."""
        used = {number for index in equations for number in numbers_in(atoms[index].body)}
        for neighbour in range(max(0, place - 3), min(len(parts), place + 2)):
            part = parts[neighbour]
            stated = [
                index
                for index in part
                if atoms[index].kind is Kind.NUMBER and used & set(numbers_in(atoms[index].body))
            ]
            if neighbour == place or not stated or other_people(about[place], about[neighbour]):
                continue
            for index in part:
                if index in stated or _content(atoms[index], None):
                    scores[index] = max(scores[index], _NAME)


def _content(atom: Atom, among: frozenset[str] | None) -> bool:
    """A word that carries meaning; with ``among``, only one of those (or a relation word)."""
    if atom.kind is Kind.NUMBER:
        return among is not None
    if atom.kind is not Kind.WORD:
        return False
    words = [word.lower() for word in _WORD.findall(atom.body)]
    if any(word in RELATION_WORDS for word in words):
        return True
    return any(
        word not in FUNCTION_WORDS and (among is None or word in among) for word in words
    ) and not _HEDGE.search(atom.body)


def _checking(parts: Sequence[range], texts: Sequence[str], atoms: Sequence[Atom]) -> list[bool]:
    """Sentences of a double-check: from its announcement to the end of the paragraph."""
    found: list[bool] = []
    inside = False
    for position, (part, text) in enumerate(zip(parts, texts, strict=True)):
        after_blank = position > 0 and "\n\n" in atoms[part.start - 1].trail
        if after_blank:
            inside = False
        if _CHECK.search(text):
            inside = True
        found.append(inside)
    return found


def _about(atoms: Sequence[Atom], part: range, question: str) -> Mention:
    """Whom and what a sentence speaks of."""
    bodies = [atoms[index].body for index in part if atoms[index].kind is Kind.WORD]
    words = [word for body in bodies for word in _WORD.findall(body)]
    content = [word for word in words if word.lower() not in FUNCTION_WORDS | RELATION_WORDS]
    return Mention.of([word for word in content if not _HEDGE.search(word)], question)


def _decisive(
    job: Job, parts: Sequence[range], checking: Sequence[bool], about: Sequence[Mention]
) -> frozenset[int]:
    """Formula atoms to keep: first, not wrong and, where it can be told, leading to the answer."""
    place_of = {index: place for place, part in enumerate(parts) for index in part}
    seen: set[str] = set()
    parsed: dict[int, Link] = {}
    for index, atom in enumerate(job.atoms):
        if atom.kind not in FORMULAS or atom.kind is Kind.BOXED or checking[place_of[index]]:
            continue
        equation = read_equation(atom.body)
        if equation is not None and equation.correct is False:
            continue
        mark = _same_as(atom.body, equation)
        if mark not in seen:
            seen.add(mark)
            parsed[index] = Link(equation, about[place_of[index]])
    return leading_to(job.trace.gold, job.trace.question, parsed)


def _same_as(text: str, equation: Equation | None) -> str:
    """Alike for repeats of an equation: the same numbers in another order, or the same text."""
    if equation is not None and equation.result is not None and equation.correct:
        return f"{sorted(equation.operands)} {equation.result}"
    return re.sub(r"[^\w=+*/×÷^.<>−-]", "", text).strip(".,;:").lower()
