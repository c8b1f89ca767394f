"""Tells GSM8K's human solutions again: its calculator calls, worked out as our own traces are.

``48/2 = <<48/2=24>>24`` names every calculation. Each is read as a formula, done step by step, and
written out where it is hard; the sentence that it stands in follows. A solution with a call that
can't be read, or that is wrong, is not told again.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from fractions import Fraction

from extracot_training.synthetic.arithmetic.spelling import decimal
from extracot_training.synthetic.arithmetic.written import is_written, working
from extracot_training.synthetic.relations.bank import capitals
from extracot_training.synthetic.story import Op

_CALL = re.compile(r"<<([^<>=\n]*)=([^<>=\n]*)>>")
_FORMULA = re.compile(r"[($]*\d[\d.,$%()\s*/x×+÷-]*(?==)")
_SIGN = re.compile(r"(?<=[\d.%)])\s*([*/x×+÷-])\s*(?=[($]*[\d.])")
_SHOWN = {"*": "×", "x": "×", "/": "÷"}
_OPS: dict[type[ast.operator], Op] = {
    ast.Add: Op.ADD, ast.Sub: Op.SUB, ast.Mult: Op.MUL, ast.Div: Op.DIV,
}  # fmt: skip
# Digits after the point that are still told.
PLACES = 4
# Numbers from this on are not written out digit by digit.
MOST = 10**6


class _UnreadableError(ValueError):
    """A call that is no formula of ours, or one that is wrong."""


@dataclass(frozen=True, slots=True)
class Retold:
    """``full`` has the sentences, ``bare`` the calculations alone, which end with ``last``."""

    full: str
    bare: str
    last: str


def retold(solution: str, *, two_digits: bool = False) -> Retold | None:
    """A solution with its calls, written out with two digits too if wanted; ``None`` where it has
    none, or one that can't be told again.

    >>> retold("She sold 48/6 = <<48/6=8>>8 clips in May.").full
    'She sold 48 ÷ 6 = 8 clips in May.'
    """
    full: list[str] = []
    bare: list[str] = []
    try:
        for line in filter(None, map(str.strip, solution.splitlines())):
            for formula, claimed in _CALL.findall(line):
                worked = _worked(formula, claimed, two_digits)
                bare += worked
                # What is told before its sentence: what that does not show.
                full += worked if len(worked) > 1 or ";" in "".join(worked) else []
            full.append(capitals(_sentence(_CALL.sub("", line))))
    except _UnreadableError:
        return None
    if not bare:
        return None
    return Retold(" ".join(full), " ".join(bare), bare[-1].rpartition(" = ")[2].rstrip("."))


def _sentence(line: str) -> str:
    """The line with our signs in its formulas, and with a stop."""

    def formula(match: re.Match[str]) -> str:
        text = _SIGN.sub(lambda sign: f" {_SHOWN.get(sign[1], sign[1])} ", match[0])
        return f"{text.rstrip()} "

    told = re.sub(r"\s*=\s*", " = ", _FORMULA.sub(formula, line))
    return told if told.endswith((".", "!", "?")) else f"{told}."


def _worked(formula: str, claimed: str, two_digits: bool) -> list[str]:
    """A sentence per calculation of the formula; a number alone is no calculation."""
    try:
        tree = ast.parse(formula.replace(",", "").replace("%", "/100").strip(), mode="eval")
    except (SyntaxError, ValueError):
        raise _UnreadableError from None
    told: list[str] = []
    value = _value(tree.body, told, two_digits)
    if _told(value) != _plain(claimed):
        raise _UnreadableError
    return told


def _plain(number: str) -> str:
    try:
        return _told(Fraction(number.replace(",", "").strip()))
    except (ValueError, ZeroDivisionError):
        raise _UnreadableError from None


def _told(value: Fraction) -> str:
    scaled = value * 10**PLACES
    if scaled.denominator != 1:
        raise _UnreadableError
    sign = "-" if value < 0 else ""
    return f"{sign}{decimal(abs(scaled.numerator), PLACES)}"


def _value(node: ast.expr, told: list[str], two_digits: bool) -> Fraction:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        try:
            return Fraction(str(node.value))
        except ValueError:  # 1e999 is infinite
            raise _UnreadableError from None
    if not isinstance(node, ast.BinOp) or type(node.op) not in _OPS:
        raise _UnreadableError
    left, right = (_value(side, told, two_digits) for side in (node.left, node.right))
    op = _OPS[type(node.op)]
    if op is Op.DIV and right == 0:
        raise _UnreadableError
    results = {Op.ADD: left + right, Op.SUB: left - right, Op.MUL: left * right}
    value = left / right if op is Op.DIV else results[op]
    whole = all(one.denominator == 1 and 0 <= one < MOST for one in (left, right, value))
    if whole and is_written(op, int(left), int(right), always=two_digits):
        told.append(f"{working(op, int(left), int(right), always=two_digits)}.")
    else:
        told.append(f"{_told(left)} {op.value} {_told(right)} = {_told(value)}.")
    return value
