"""Reads what an equation atom says: its numbers, its sides, and whether its arithmetic is right.

Only whole, plain arithmetic is judged; anything else is "unknown", never "wrong". Exact fractions,
no floating point, no ``eval``.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from extracot_training.math_text.lexemes import SCRIPTS
from extracot_training.math_text.vocabulary import UNITS

_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+")
_SIDES = re.compile(r"(?<![<>!:])=+")
_LATEX = (
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf)\s*\{[^{}]*\}"), " "),
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"((\1)/(\2))"),
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])"), "*"),
    (re.compile(r"\\div(?![A-Za-z])"), "/"),
    (re.compile(r"\\(?:left|right|,|;|!|quad|\$|%)|[$]|\\[()\[\]]"), " "),
)
_SIGNS = str.maketrans({"×": "*", "·": "*", "∙": "*", "÷": "/", "−": "-", "–": "-", ":": "/"})
_ARITHMETIC = re.compile(r"[\d\s.+*/()-]+", re.ASCII)
_LETTER = rf"[^\W\d_{SCRIPTS}]"
_WORD = re.compile(rf"{_LETTER}{{2,}}")
# Words that change a value, and names behind a number: what holds them is not judged.
_UNJUDGED = re.compile(
    r"\b(?:of|half|twice|double|triple|thrice|squared?|cubed?|root|plus|minus|times|divided|multiplied"
    r"|over|mod|choose|more|less|fewer|than|and|or|out|to|log|ln|exp|sin|cos|tan|sqrt|max|min|gcd|lcm)"
    rf"\b|\d(?:[Α-ω]|{_LETTER}{{2,}}(?<=[Α-ω]))"
)
# Implications, which are several equations, and times of day.
_NO_EQUATION = re.compile(
    r"[-=]>|[→⇒⟹⇔←]|\\(?:to|iff|implies|[Rr]ightarrow|[Ll]eftrightarrow)(?![A-Za-z])"
    r"|\d{1,2}:\d\d(?!\d)"
)
_OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip
# More than this is not checked by hand either, and bounds the recursion below.
_MAX_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Equation:
    """``operands``: numbers before the last ``=``; ``result``: the number alone after it, if so;
    ``correct``: all sides that can be computed agree, as far as decimals are shown (``None`` if
    fewer than two can)."""

    operands: tuple[Fraction, ...]
    result: Fraction | None
    correct: bool | None


def numbers_in(text: str) -> list[Fraction]:
    """All plain numbers of ``text`` in order; ``1,250`` is one number."""
    return [Fraction(match.group().replace(",", "")) for match in _NUMBER.finditer(text)]


def read_equation(text: str) -> Equation | None:
    """The equation in an atom's text, or ``None`` if it has no ``=``."""
    sides = _SIDES.split(_plain(text.strip().rstrip(".,;:!?")))
    if len(sides) < 2:
        return None
    values = [(value, side) for side in sides if (value := evaluate(side)) is not None]
    right = all(_alike(value, *behind) for (value, _), behind in pairwise(values))
    judged = len(values) > 1 and not _NO_EQUATION.search(text)
    if judged and not right:
        judged = not _converts(sides)
    last = numbers_in(sides[-1])
    return Equation(
        operands=tuple(number for side in sides[:-1] for number in numbers_in(side)),
        result=last[0] if len(last) == 1 else None,
        correct=right if judged else None,
    )


def evaluate(text: str) -> Fraction | None:
    """The value of plain arithmetic (units ignored), or ``None`` if it is anything else."""
    if _UNJUDGED.search(text):
        return None
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", _plain(text))
    plain = re.sub(r"\s+x\s+(?=\d)", " * ", plain)
    plain = _WORD.sub(" ", re.sub(rf"\b{_LETTER}\.|[€£¥]", " ", plain))
    if len(plain) > _MAX_LENGTH or not plain.strip():
        return None
    # As Python writes numbers: no leading zeros, and a digit behind each point.
    plain = " ".join(re.sub(r"(?<![\d.])0+(?=\d)", "", plain).split())
    if not _ARITHMETIC.fullmatch(plain) or re.search(r"\.(?!\d)", plain):
        return None
    try:
        return _value(ast.parse(plain, mode="eval").body, plain)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def _alike(value: Fraction, other: Fraction, side: str) -> bool:
    """Equal, or ``other`` is ``value`` rounded or cut to the decimals that ``side`` shows, as in
    ``7 / 3 = 2.33`` and ``2 / 3 = 0.66``. Nothing is rounded to a whole number."""
    shown = _NUMBER.findall(side)
    decimals = len(shown[0].partition(".")[2]) if len(shown) == 1 else 0
    return value == other or (decimals > 0 and abs(value - other) < Fraction(1, 10**decimals))


def _converts(sides: list[str]) -> bool:
    """Whether the sides are told in different units: ``1 hour = 60 minutes``."""
    units = [{word for word in _WORD.findall(side) if word in UNITS} for side in sides]
    told = [found for found in units if found]
    return len(told) > 1 and any(told[0].isdisjoint(found) for found in told[1:])


def _value(node: ast.expr, text: str) -> Fraction:
    """Exact, from the digits in the text. Raises ``ValueError`` for anything but arithmetic."""
    match node:
        case ast.Constant():
            return Fraction(text[node.col_offset : node.end_col_offset])
        case ast.UnaryOp(op=ast.USub()):
            return -_value(node.operand, text)
        case ast.BinOp() if operation := _OPERATIONS.get(type(node.op)):
            return operation(_value(node.left, text), _value(node.right, text))
    raise ValueError("no plain arithmetic")


def _plain(text: str) -> str:
    for pattern, replacement in _LATEX:
        text = pattern.sub(replacement, text)
    return text.translate(_SIGNS)
