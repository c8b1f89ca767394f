"""What a reasoning problem is made of: facts, what each depends on, and the slips one can make.

A kind of problem writes its solution once, as a function that states fact after fact to a
:class:`Graph`. Told again with slips in place of some facts, the same function gives the world as
somebody sees it who made them: every consequence is computed from the wrong value. Texts are in
the markup of :mod:`extracot_training.synthetic.reasoning.markup`. This module does not know how a
solution is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from random import Random
from typing import Literal

from extracot_training.synthetic.story import Reject

__all__ = ["Claim", "Fact", "Graph", "Problem", "Reject", "Root", "Slip", "Value", "tex"]


@dataclass(frozen=True, slots=True)
class Root:
    """``factor * sqrt(radicand)``; the radicand has no square factor. Made by :meth:`of`."""

    factor: Fraction
    radicand: int

    @staticmethod
    def of(square: int | Fraction, factor: int | Fraction = 1) -> Value:
        """``factor * sqrt(square)``, simplified: a number where the root is one."""
        square = Fraction(square)
        if square < 0:
            raise Reject
        if square == 0:
            return Fraction(0)
        inner, outer = square.numerator * square.denominator, Fraction(factor) / square.denominator
        divisor = 2
        while divisor * divisor <= inner:
            if inner % (divisor * divisor):
                divisor += 1
            else:
                inner //= divisor * divisor
                outer *= divisor
        return outer if inner == 1 else Root(outer, inner)


Value = int | Fraction | Root | str


def tex(value: Value) -> str:
    """A value in LaTeX: ``12``, ``-\\frac{7}{3}``, ``3\\sqrt{5}``, a formula as it is."""
    if isinstance(value, str):
        return value
    if isinstance(value, Root):
        root = f"\\sqrt{{{value.radicand}}}"
        top = abs(value.factor.numerator)
        sign = "-" if value.factor < 0 else ""
        over = root if top == 1 else f"{top}{root}"
        below = value.factor.denominator
        return f"{sign}{over}" if below == 1 else f"{sign}\\frac{{{over}}}{{{below}}}"
    number = Fraction(value)
    if number.denominator == 1:
        return str(number.numerator)
    sign = "-" if number < 0 else ""
    return f"{sign}\\frac{{{abs(number.numerator)}}}{{{number.denominator}}}"


SlipKind = Literal["miscalculation", "misreading", "formula", "off_by_one"]


@dataclass(frozen=True, slots=True)
class Slip:
    """A wrong version of a fact. ``expr``: ``None`` where the right expression was worked out
    wrongly. ``notes``: clauses that say what is wrong ("the path runs along *both* sides")."""

    kind: SlipKind
    value: Value
    expr: str | None = None
    says: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    why: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fact:
    """``what``: noun phrases that name it. ``expr``: formulas whose value is ``value``. ``says``:
    whole clauses, for what is no computation. ``why``: clauses that give the reason. ``needed``:
    whether the answer can depend on it (a detour's facts can't)."""

    key: str
    value: Value
    what: tuple[str, ...] = ()
    expr: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    why: tuple[str, ...] = ()
    deps: tuple[str, ...] = ()
    symbol: str | None = None
    unit: str = ""
    slips: tuple[Slip, ...] = ()
    aside: bool = False
    wrong: bool = False


# What a kind may give for texts: one, or several to choose from.
Texts = str | Sequence[str]
Claim = Texts


def _texts(given: Texts) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


@dataclass(slots=True)
class Graph:
    """Facts in the order in which a kind states them. With ``slips`` the named facts are wrong, and
    ``broken`` names the fact at which the wrong world could not be worked out further."""

    slips: Mapping[str, Slip] = field(default_factory=dict)
    facts: dict[str, Fact] = field(default_factory=dict)

    def value(
        self, key: str, what: Texts, expr: Texts, value: Value, deps: str = "", *,
        why: Texts = (), symbol: str | None = None, unit: str = "",
        slips: Sequence[Slip] = (), aside: bool = False,
    ) -> Value:  # fmt: skip
        """State a computed value; gives it back, or the wrong one where there is a slip."""
        fact = Fact(
            key, value, _texts(what), _texts(expr), (), _texts(why), tuple(deps.split()),
            symbol, unit, tuple(slips), aside,
        )  # fmt: skip
        return self._state(fact)

    def number(self, *args: object, **kwargs: object) -> Fraction:
        """:meth:`value` of a fact whose value is a number. :class:`Reject` where it is none."""
        found = self.value(*args, **kwargs)  # type: ignore[arg-type]
        if isinstance(found, Root | str):
            raise Reject
        return Fraction(found)

    def whole(self, *args: object, **kwargs: object) -> int:
        """:meth:`number` of a fact whose value is a whole number; :class:`Reject` where not."""
        found = self.number(*args, **kwargs)
        if found.denominator != 1:
            raise Reject
        return found.numerator

    def claim(
        self, key: str, says: Texts, deps: str = "", *, value: Value = "", what: Texts = (),
        slips: Sequence[Slip] = (), why: Texts = (), aside: bool = False,
    ) -> Value:  # fmt: skip
        """State a clause: a condition, a formula, a definition. ``value``: what it comes to."""
        fact = Fact(
            key, value, _texts(what), (), _texts(says), _texts(why), tuple(deps.split()),
            slips=tuple(slips), aside=aside,
        )  # fmt: skip
        return self._state(fact)

    def _state(self, fact: Fact) -> Value:
        if fact.key in self.facts or not all(key in self.facts for key in fact.deps):
            raise AssertionError(
                f"fact {fact.key!r}: stated twice, or depends on what is not there"
            )
        # With some numbers a wrong formula happens to have the right value.
        wrong = tuple(slip for slip in fact.slips if tex(slip.value) != tex(fact.value))
        fact = replace(fact, slips=wrong)
        slip = self.slips.get(fact.key)
        if slip is not None:
            fact = replace(
                fact, value=slip.value, wrong=True, why=slip.why, slips=(),
                expr=fact.expr if slip.expr is None else (slip.expr,),
                says=slip.says if fact.says else (),
            )  # fmt: skip
        elif any(self.facts[key].wrong for key in fact.deps):
            fact = replace(fact, wrong=True, slips=())
        self.facts[fact.key] = fact
        return fact.value


@dataclass(frozen=True, slots=True)
class Problem:
    """``answer``: bare LaTeX. ``target``: what is asked for, as a noun phrase. ``conditions``:
    clauses of the question that matter, to restate. ``dead``: ways that lead nowhere, each some
    clauses. ``checks``: clauses that confirm the answer. ``last``: the fact that is the answer.
    ``other``: another way to the answer, clause by clause. ``parts``: kinds of the problems that it
    is made of, if it is made of some."""

    kind: str
    question: str
    answer: str
    target: tuple[str, ...]
    solve: Callable[[Graph], None]
    last: str
    conditions: tuple[str, ...] = ()
    dead: tuple[tuple[str, ...], ...] = ()
    checks: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    unit: str = ""
    parts: tuple[str, ...] = ()
    other: tuple[str, ...] = ()

    def world(self, slips: Mapping[str, Slip] | None = None) -> tuple[dict[str, Fact], bool]:
        """All facts as far as they can be worked out, and whether that is all of them."""
        graph = Graph(slips or {})
        try:
            self.solve(graph)
        except (Reject, ZeroDivisionError):
            return graph.facts, False
        return graph.facts, True


def needed_facts(facts: Mapping[str, Fact], last: str) -> tuple[str, ...]:
    """Keys of the facts that ``last`` depends on, itself included, in the order of the graph."""
    found: set[str] = set()
    waiting = [last]
    while waiting:
        key = waiting.pop()
        if key not in found:
            found.add(key)
            waiting.extend(facts[key].deps)
    return tuple(key for key in facts if key in found)


def tainted(facts: Mapping[str, Fact]) -> frozenset[str]:
    """Keys of the facts that are wrong in this world."""
    return frozenset(key for key, fact in facts.items() if fact.wrong)


def miscalculations(fact: Fact, rng: Random) -> list[Slip]:
    """Wrong results of a right expression, as they come from haste: near the right one."""
    if isinstance(fact.value, str) or not fact.expr or tex(fact.value) == fact.expr[0]:
        return []
    if isinstance(fact.value, Root):
        off = Root.of(fact.value.radicand + rng.choice((1, 2, -1)), fact.value.factor)
        return [Slip("miscalculation", off)] if off != fact.value else []
    number = Fraction(fact.value)
    if number.denominator != 1:
        top, below = number.numerator, number.denominator
        wrong = {Fraction(top + 1, below), Fraction(top, below + 1), Fraction(below, top or 1)}
    else:
        whole = number.numerator
        step = rng.choice((1, 2, 10)) if abs(whole) > 20 else rng.choice((1, 2))
        wrong = {Fraction(whole + step), Fraction(whole - step)}
        digits = str(abs(whole))
        if len(digits) > 1 and digits[-1] != "0":
            wrong.add(Fraction(int(digits[:-2] + digits[-1] + digits[-2])))
        if number < 0:
            wrong.add(-number)
    wrong = {value for value in wrong if value != number and (number <= 0 or value > 0)}
    return [Slip("miscalculation", value) for value in sorted(wrong)]
