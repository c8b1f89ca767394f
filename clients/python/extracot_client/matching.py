r"""Compares a boxed answer with the known one: same text after tidying, or the same number.

Meant for sweeps over problems with short answers. It does no algebra: ``x+1`` and ``1+x`` differ
here, and an evaluation that needs more brings a verifier of its own.
"""

from __future__ import annotations

import re
from fractions import Fraction

_DROPPED = re.compile(r"\\[!,;: ]|\\(?:left|right)(?![A-Za-z])|[$\s]|\\%|%$")
_UNWRAP = re.compile(r"\\(?:text|mathrm|mathbf|textbf)\{([^{}]*)\}")
_FRACTION = re.compile(r"(-?)\\[dt]?frac\{(-?\d+)\}\{(-?\d+)\}")
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_MAX_NUMBER = 60


def gold_answer(text: str) -> str:
    """The bare answer of a data set's answer field; GSM8K puts it after ``####``."""
    return text.rpartition("####")[2].strip()


def same_answer(found: str | None, gold: str) -> bool:
    r"""Whether ``found`` says what ``gold`` says.

    >>> same_answer(r"\$1,200", "1200.0"), same_answer(r"\dfrac{1}{2}", "0.5")
    (True, True)
    """
    if found is None:
        return False
    left, right = _tidy(found), _tidy(gold)
    if left == right:
        return bool(left)
    first, second = _number(left), _number(right)
    return first is not None and first == second


def _tidy(text: str) -> str:
    text = text.replace("\\$", "").replace("−", "-")
    text = _UNWRAP.sub(r"\1", text)
    return _DROPPED.sub("", text).rstrip(".").replace("dfrac", "frac").replace("tfrac", "frac")


def _number(text: str) -> Fraction | None:
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    fraction = _FRACTION.fullmatch(text)
    if fraction:
        text = f"{fraction[1]}{fraction[2]}/{fraction[3]}".replace("--", "")
    # Short plain numbers only: `1e999999999` must not become an integer of a billion digits.
    if len(text) > _MAX_NUMBER or "e" in text.lower():
        return None
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None
