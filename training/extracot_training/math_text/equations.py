"""Reads what an equation atom says: its numbers, its sides, and whether its arithmetic is right.

Only whole, plain arithmetic is judged; anything else is "unknown", never "wrong". Exact fractions,
no floating point, no ``eval``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

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
_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?|\.\d+)|([-+*/()]))")
# More than this is not checked by hand either, and bounds the recursion below.
_MAX_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Equation:
    """``operands``: numbers before the last ``=``; ``result``: the number alone after it, if so;
    ``correct``: all sides that can be computed agree (``None`` if fewer than two can)."""

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
    values = [value for side in sides if (value := evaluate(side)) is not None]
    last = numbers_in(sides[-1])
    return Equation(
        operands=tuple(number for side in sides[:-1] for number in numbers_in(side)),
        result=last[0] if len(last) == 1 else None,
        correct=len(set(values)) == 1 if len(values) > 1 else None,
    )


def evaluate(text: str) -> Fraction | None:
    """The value of plain arithmetic (units ignored), or ``None`` if it is anything else."""
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", _plain(text))
    plain = re.sub(r"\s+x\s+(?=\d)", " * ", plain)
    plain = re.sub(r"[^\W\d_]{2,}|\b[^\W\d_]\.|[€£¥]", " ", plain)
    if len(plain) > _MAX_LENGTH or not plain.strip():
        return None
    tokens: list[str] = []
    at, plain = 0, plain.strip()
    while at < len(plain):
        match = _TOKEN.match(plain, at)
        if match is None:
            return None
        tokens.append(match.group(1) or match.group(2))
        at = match.end()
    try:
        value, rest = _sum(tokens)
    except (ValueError, ZeroDivisionError, IndexError):
        return None
    return value if not rest else None


def _plain(text: str) -> str:
    for pattern, replacement in _LATEX:
        text = pattern.sub(replacement, text)
    return text.translate(_SIGNS)


def _sum(tokens: list[str]) -> tuple[Fraction, list[str]]:
    value, tokens = _product(tokens)
    while tokens and tokens[0] in "+-":
        right, rest = _product(tokens[1:])
        value, tokens = (value + right if tokens[0] == "+" else value - right), rest
    return value, tokens


def _product(tokens: list[str]) -> tuple[Fraction, list[str]]:
    value, tokens = _factor(tokens)
    while tokens and tokens[0] in "*/":
        right, rest = _factor(tokens[1:])
        value, tokens = (value * right if tokens[0] == "*" else value / right), rest
    return value, tokens


def _factor(tokens: list[str]) -> tuple[Fraction, list[str]]:
    if tokens[0] == "-":
        value, rest = _factor(tokens[1:])
        return -value, rest
    if tokens[0] == "(":
        value, rest = _sum(tokens[1:])
        if rest[0] != ")":
            raise ValueError("no closing bracket")
        return value, rest[1:]
    return Fraction(tokens[0]), tokens[1:]
