"""The ``rules`` annotator: deterministic, free, for tests and for a first compressor.

It keeps what an answer is built from: the target's definition, the earliest correct form of each
equation on the way to the answer, the words that name them, relations and negations, the final
answer. Where the answer is worked out only behind the reasoning (``11 + 20 = 31``), it keeps what
that is worked out from. It drops narration, hedges, repeats, double-checks and equations that lead
nowhere, among them those about somebody or something else than what was asked
(:mod:`annotate.chain`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from extracot_training.compression.final_answer import final_atoms
from extracot_training.compression.reading import read_step
from extracot_training.compression.segment import FORMULAS, Atom, Kind, segment, sentences
from extracot_training.math_text.equations import Equation, read_equation
from extracot_training.stages.annotate.base import Job, KeepLabels
from extracot_training.stages.annotate.chain import Link, Mention, leading_to, link, other_people

VERSION = 3

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
            scores = _Scoring(job, self._context).scores()
            keep = tuple(index for index, score in enumerate(scores) if score > 0)
            yield KeepLabels(keep, tuple(scores))


class _Scoring:
    """Scores one trace's atoms, sentence by sentence."""

    def __init__(self, job: Job, context: int) -> None:
        self._job = job
        self._context = context
        self._atoms = job.atoms
        self._scores = [_DROPPED] * len(job.atoms)
        self._parts = sentences(job.atoms)
        self._texts = ["".join(job.atoms[i].text for i in part) for part in self._parts]
        self._about = [self._mention(part) for part in self._parts]

    def scores(self) -> list[float]:
        checking = self._checking()
        closing = self._closing()
        decisive = self._decisive(checking, closing)
        asked = frozenset(word.lower() for word in _WORD.findall(self._job.trace.question))
        target_seen = False
        for place, (part, text) in enumerate(zip(self._parts, self._texts, strict=True)):
            equations = [index for index in part if index in decisive]
            for index in equations:
                self._scores[index] = _EQUATION
                self._name(part, index)
            if equations:
                self._substitutions(place, equations)
            elif not checking[place] and not target_seen and _TARGET.search(text):
                target_seen = True
                for index in part:
                    if _content(self._atoms[index], asked):
                        self._scores[index] = _TARGET_WORD
        for answer in _brought(closing) if closing else [self._job.trace.gold]:
            for index in final_atoms(self._atoms, answer):
                self._scores[index] = _FINAL
        return self._scores

    def _name(self, part: range, at: int) -> None:
        """Keep the words of the sentence that say what the equation computes."""
        words = [i for i in part if i != at and _content(self._atoms[i], None)]
        before = [i for i in reversed(words) if i < at][: self._context]
        self._raise((before + [i for i in words if i > at])[: self._context])

    def _substitutions(self, place: int, equations: Sequence[int]) -> None:
        """Keep the sentences next to a decisive equation that put its numbers in or take its result
        out: their numbers, and the words naming them."""
        atoms, about = self._atoms, self._about
        used = {value for index in equations for value in self._values(index)}
        for neighbour in range(max(0, place - 3), min(len(self._parts), place + 2)):
            part = self._parts[neighbour]
            stated = [
                index
                for index in part
                if atoms[index].kind is Kind.NUMBER and used & self._values(index)
            ]
            if neighbour == place or not stated or other_people(about[place], about[neighbour]):
                continue
            self._raise(i for i in part if i in stated or _content(atoms[i], None))

    def _values(self, index: int) -> frozenset[str]:
        return read_step([self._atoms[index]]).values

    def _raise(self, indices: Iterable[int]) -> None:
        for index in indices:
            self._scores[index] = max(self._scores[index], _NAME)

    def _checking(self) -> list[bool]:
        """Sentences of a double-check: from its announcement to the end of the paragraph."""
        found: list[bool] = []
        inside = False
        for part, text in zip(self._parts, self._texts, strict=True):
            new_paragraph = found and "\n\n" in self._atoms[part.start - 1].trail
            inside = bool(_CHECK.search(text)) or (inside and not new_paragraph)
            found.append(inside)
        return found

    def _mention(self, part: range) -> Mention:
        """Whom and what a sentence speaks of."""
        bodies = [self._atoms[i].body for i in part if self._atoms[i].kind is Kind.WORD]
        words = [word for body in bodies for word in _WORD.findall(body)]
        content = [word for word in words if word.lower() not in FUNCTION_WORDS | RELATION_WORDS]
        named = [word for word in content if not _HEDGE.search(word)]
        return Mention.of(named, self._job.trace.question)

    def _closing(self) -> list[tuple[str, Equation]]:
        """The right equations of the reply's answer and their texts, if the reasoning does not
        state the answer."""
        trace = self._job.trace
        if final_atoms(self._atoms, trace.gold):
            return []
        formulas = (atom.body for atom in segment(trace.answer) if atom.kind in FORMULAS)
        read = [(body, equation) for body in formulas if (equation := read_equation(body))]
        return [(body, one) for body, one in read if one.correct and one.operands]

    def _decisive(
        self, checking: Sequence[bool], closing: Sequence[tuple[str, Equation]]
    ) -> frozenset[int]:
        """Formula atoms to keep: first, not wrong, where it can be told leading to the answer."""
        seen: set[str] = set()
        parsed: dict[int, Link] = {}
        for part, about, checked in zip(self._parts, self._about, checking, strict=True):
            for index in part:
                atom = self._atoms[index]
                if atom.kind not in FORMULAS or atom.kind is Kind.BOXED or checked:
                    continue
                equation = read_equation(atom.body)
                if equation is not None and equation.correct is False:
                    continue
                mark = _same_as(atom.body, equation)
                if mark not in seen:
                    seen.add(mark)
                    parsed[index] = link(atom.body, about)
        texts = [text for text, _ in closing]
        return leading_to(self._job.trace.gold, self._job.trace.question, parsed, texts)


def _brought(closing: Sequence[tuple[str, Equation]]) -> list[str]:
    """The numbers that these equations take from elsewhere."""
    made = {equation.result for _, equation in closing}
    return [str(n) for _, equation in closing for n in equation.operands if n not in made]


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


def _same_as(text: str, equation: Equation | None) -> str:
    """Alike for repeats of an equation: the same numbers in another order, or the same text."""
    if equation is not None and equation.result is not None and equation.correct:
        return f"{sorted(equation.operands)} {equation.result}"
    return re.sub(r"[^\w=+*/×÷^.<>−-]", "", text).strip(".,;:").lower()
