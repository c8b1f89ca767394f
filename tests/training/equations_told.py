"""The equations that a trace states in plain signs, and whether each is true."""

from __future__ import annotations

import re
from fractions import Fraction

_NUMBER = r"\d+(?:\.\d+)?"
_SIDE = rf"{_NUMBER}(?: [-+×÷] {_NUMBER})*"
_CHAIN = re.compile(rf"(?<![\d.])(?<![-+×÷] ){_SIDE}(?: = {_SIDE})+")


def equations_told(text: str) -> list[bool]:
    """One truth value per equation, or chain of equations, in the order of the text."""
    return [
        len({_value(side) for side in chain.split(" = ")}) == 1 for chain in _CHAIN.findall(text)
    ]


def _value(side: str) -> Fraction:
    """A formula of whole or decimal numbers: products and quotients first."""
    total, term, sign = Fraction(0), Fraction(0), 1
    for op, number in re.findall(rf"(?:^|([-+×÷]) )({_NUMBER})", side):
        value = Fraction(number)
        if op == "×":
            term *= value
        elif op == "÷":
            term /= value
        else:
            total, term, sign = total + sign * term, value, -1 if op == "-" else 1
    return total + sign * term
