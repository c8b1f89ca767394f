r"""Digits that are raised and digits that repeat, ``x²`` and ``0.\overline{3}``, as other LaTeX."""

from __future__ import annotations

import re
from fractions import Fraction

_SMALL = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻"
_FULL_SIZE = str.maketrans(_SMALL, "0123456789+-")
_RAISED = re.compile(r"(?<=[^\s⁰¹²³⁴-⁹⁺⁻])([⁺⁻]?[⁰¹²³⁴-⁹]+)(?=(\d?))")
# Twelve digits of each kind are more than anybody writes.
_REPEATING = re.compile(
    r"(?<![\w.,}])(?P<whole>\d{0,12})\.(?P<before>\d{0,12})"
    r"\\(?:overline|bar|dot)\s*(?:\{\s*(?P<period>\d{1,12})\s*\}|(?P<digit>\d))(?!\d|\\(?:overline|bar|dot))"
)


def with_powers(text: str) -> str:
    """Raised digits behind anything but a space, as powers.

    >>> with_powers("x²"), with_powers("x¹⁰"), with_powers("2⁻³")
    ('x^2', 'x^{10}', '2^{-3}')
    """
    return _RAISED.sub(_power, text)


def _power(match: re.Match[str]) -> str:
    exponent = match[1].translate(_FULL_SIZE)
    return f"^{exponent}" if len(exponent) == 1 and not match[2] else f"^{{{exponent}}}"


def with_periods(text: str) -> str:
    r"""Decimals that repeat, as the fractions they are.

    >>> with_periods(r"0.3\overline{6}"), with_periods(r"-0.\bar{3}")
    ('\\frac{11}{30}', '-\\frac{1}{3}')
    """
    return _REPEATING.sub(_fraction, text)


def _fraction(match: re.Match[str]) -> str:
    before, period = match["before"], match["period"] or match["digit"]
    if "\\dot" in match[0] and len(period) > 1:
        return match[0]  # dots stand over single digits
    scale = 10 ** len(before)
    value = Fraction(int(match["whole"] + before or "0"), scale)
    value += Fraction(int(period), scale * (10 ** len(period) - 1))
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}"
