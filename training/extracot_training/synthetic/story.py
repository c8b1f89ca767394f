"""What a word problem is made of: quantities, steps that are right when made, and seeded draws;
and what it is once made.

A family writes sentences and calls :class:`Story`'s arithmetic; every step is computed here, so a
story can't hold a wrong equation. A step that breaks the rules (a result above the cap, below
zero, or a division with a remainder) raises :class:`Reject`, and the generator draws again.
This module knows neither families nor how a trace is told.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Reject(Exception):
    """This draw can't become a problem under the given cap; draw again."""


class Op(StrEnum):
    """The four operations, valued by their plain-text sign."""

    ADD = "+"
    SUB = "-"
    MUL = "×"
    DIV = "÷"


INVERSE = {Op.ADD: Op.SUB, Op.SUB: Op.ADD, Op.MUL: Op.DIV, Op.DIV: Op.MUL}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with a meaning: ``what`` is a noun phrase ("the cost of the pens"), ``unit`` a
    plural ("dollars") or empty. ``spelled`` is how the question writes a given, if not in digits
    ("twice"). ``step`` is the index of the step that made it, ``None`` for a given."""

    value: int
    what: str
    unit: str = ""
    spelled: str | None = None
    step: int | None = None

    @property
    def amount(self) -> str:
        """``35 dollars``, ``1 dollar``, ``35``."""
        return counted(self.value, self.unit) if self.unit else str(self.value)


@dataclass(frozen=True, slots=True)
class Step:
    """One equation: ``terms`` joined by ``op`` make ``result``. Only sums have over two terms."""

    op: Op
    terms: tuple[Quantity, ...]
    result: Quantity


# Where the singular is not the plural without its "s" or "es".
SINGULAR = {"people": "person", "children": "child", "shelves": "shelf"}


def singular(plural: str) -> str:
    """The singular of a plural used by our families ("boxes" -> "box", "pens" -> "pen")."""
    return SINGULAR.get(plural) or re.sub(r"(ss|us|x|[cs]h)es$|s$", r"\1", plural)


def counted(value: int, plural: str) -> str:
    """``3 boxes``, ``1 box``."""
    return f"{value} {singular(plural) if value == 1 else plural}"


def listing(parts: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def measured(what: str, unit: str) -> str:
    """``the broken eggs`` counted in eggs -> ``the number of broken eggs``, so that it "is" one."""
    if unit and "number of" not in what and re.match(rf"(the|all) (\w+ ){{0,2}}?{unit}\b", what):
        return f"the number of {what.removeprefix('the ')}"
    return what


@dataclass(slots=True)
class Story:
    """A problem being written. ``cap`` bounds every number that occurs in it."""

    cap: int
    facts: list[str] = field(default_factory=list)
    givens: list[Quantity] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    ask: str = ""
    reply: str = ""

    def given(self, value: int, what: str, unit: str = "", spelled: str | None = None) -> Quantity:
        """A number the question states."""
        quantity = Quantity(self._checked(value), measured(what, unit), unit, spelled)
        self.givens.append(quantity)
        return quantity

    def fact(self, sentence: str) -> None:
        """A sentence of the question."""
        self.facts.append(sentence)

    def question(self, ask: str, reply: str) -> None:
        """The question sentence, and the reply with ``{}`` where the last result goes."""
        self.ask, self.reply = ask, reply

    def add(self, terms: Sequence[Quantity], what: str, unit: str = "") -> Quantity:
        return self._step(Op.ADD, tuple(terms), sum(term.value for term in terms), what, unit)

    def sub(self, left: Quantity, right: Quantity, what: str, unit: str = "") -> Quantity:
        return self._step(Op.SUB, (left, right), left.value - right.value, what, unit)

    def mul(self, left: Quantity, right: Quantity, what: str, unit: str = "") -> Quantity:
        return self._step(Op.MUL, (left, right), left.value * right.value, what, unit)

    def div(self, left: Quantity, right: Quantity, what: str, unit: str = "") -> Quantity:
        if right.value == 0 or left.value % right.value:
            raise Reject
        return self._step(Op.DIV, (left, right), left.value // right.value, what, unit)

    @property
    def answer(self) -> Quantity:
        return self.steps[-1].result

    @property
    def text(self) -> str:
        """The whole question."""
        return " ".join([*self.facts, self.ask])

    def change(self, up: bool, left: Quantity, right: Quantity, what: str, unit: str) -> Quantity:
        """A sum if ``up``, else a difference."""
        return self.add((left, right), what, unit) if up else self.sub(left, right, what, unit)

    def _step(
        self, op: Op, terms: tuple[Quantity, ...], value: int, what: str, unit: str
    ) -> Quantity:
        result = Quantity(self._checked(value), measured(what, unit), unit, step=len(self.steps))
        self.steps.append(Step(op, terms, result))
        return result

    def _checked(self, value: int) -> int:
        if not 0 <= value <= self.cap:
            raise Reject
        return value


@dataclass(frozen=True, slots=True)
class Draw:
    """Seeded choices for one story: ``steps`` is how many steps it must have."""

    rng: Random
    cap: int
    steps: int

    def between(self, low: int, high: int) -> int:
        """A whole number in ``low..high``; :class:`Reject` if there is none."""
        if high < low:
            raise Reject
        return self.rng.randint(low, high)

    def upto(self, limit: int, low: int = 2) -> int:
        """A number in ``low..limit``, small ones a little more often than large ones."""
        return min(self.between(low, limit), self.between(low, limit + (limit - low) // 2))

    def pair(self, limit: int, low: int = 2) -> tuple[int, int]:
        """Two factors of at least ``low`` whose product is at most ``limit``, in any order."""
        first = self.between(low, max(low, int(limit**0.5)))
        second = self.between(low, limit // first)
        return (first, second) if self.rng.random() < 0.5 else (second, first)

    def divisor(self, value: int, *, quotient: int = 1) -> int:
        """A divisor in 2..12 of ``value`` that goes at least ``quotient`` times into it."""
        fitting = [n for n in range(2, 13) if value % n == 0 and value // n >= quotient]
        if not fitting:
            raise Reject
        return self.one(fitting)

    def one(self, choices: Sequence[T]) -> T:
        return self.rng.choice(choices)

    def some(self, choices: Sequence[T], count: int) -> list[T]:
        """``count`` different choices; :class:`Reject` when there are too few."""
        if count > len(choices):
            raise Reject
        return self.rng.sample(list(choices), count)

    def coin(self) -> bool:
        return self.rng.random() < 0.5

    def name(self) -> str:
        return self.one(NAMES)

    def names(self, count: int) -> list[str]:
        return self.some(NAMES, count)


@dataclass(frozen=True, slots=True)
class WordProblem:
    """A generated problem. ``trace`` is the verbose reasoning, ``terse`` its equations alone,
    ``final`` the text after the reasoning (holds ``\\boxed{}``); ``brief`` and ``brief_final`` tell
    the same in a few fixed sentences; ``numbers`` are the given ones.

    With interleaved stories there is one telling: ``trace`` and ``brief`` are the same text, over
    all; ``families``, ``steps``, ``terse`` and the final texts are those of the stories asked for,
    ``family`` is that of the first.
    """

    index: int
    family: str
    question: str
    answer: int
    steps: int
    trace: str
    terse: str
    final: str
    brief: str
    brief_final: str
    numbers: tuple[int, ...]
    stories: tuple[str, ...]
    """What each story tells, without the names of persons; those asked for first."""
    families: tuple[str, ...]
    """Of each story that is asked for."""


NAMES = (
    *("Ana", "Ben", "Chloe", "Dmitri", "Elif", "Farah", "Goran", "Hana", "Igor", "Jonas"),
    *("Kofi", "Leila", "Marco", "Nadia", "Omar", "Petra", "Quinn", "Rosa", "Samir", "Tilda"),
    *("Uma", "Viktor", "Wanda", "Xenia", "Yusuf", "Zoe", "Aisha", "Bruno", "Carmen", "Dario"),
)

NUMBER_WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight"}
