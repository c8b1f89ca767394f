"""Results without the calculations that give them, of which a trace that was cut has some.

By value alone: a number that the question states, or that no calculation gives, needs none. Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction

from extracot_training.compression.segment import FORMULAS, Atom, Kind, segment
from extracot_training.math_text.equations import numbers_in, read_equation


def loose_results(question: str, trace: str, text: str) -> int:
    """How many numbers ``text``, a shortened ``trace``, takes from calculations it left out."""
    known = set(numbers_in(question))
    elsewhere = {result for _, result in map(_read, segment(trace)) if result is not None} - known
    loose = 0
    for used, result in map(_read, segment(text)):
        loose += sum(value in elsewhere and value not in known for value in used)
        if result is not None:
            known.add(result)
    return loose


def _read(atom: Atom) -> tuple[Collection[Fraction], Fraction | None]:
    """The numbers that an atom uses, and the result if it is a calculation that holds."""
    if atom.kind in (Kind.WORD, Kind.SPACE):
        return (), None
    equation = read_equation(atom.body) if atom.kind in FORMULAS else None
    if equation is None or equation.result is None or not equation.operands:
        return frozenset(numbers_in(atom.body)), None
    holds = equation.correct is not False and len(equation.operands) > 1
    return frozenset(equation.operands), equation.result if holds else None
