"""True mathematics beside the way: results undone, sizes of numbers, what a slip would have given.

Most of what a reasoning model writes is mathematics, and most of that isn't needed. These are
clauses about one told fact; this module does not know when they are said.
"""

from __future__ import annotations

import re
from fractions import Fraction
from math import isqrt
from random import Random

from extracot_training.synthetic.reasoning.facts import Fact, Root, tex

_TERM = r"(-?\d+|\(-?\d+\)|-?\\frac\{\d+\}\{\d+\})"
_BINARY = re.compile(rf"{_TERM} (\+|-|\\cdot|\\div) {_TERM}")
_UNDONE = {"+": "-", "-": "+", "\\cdot": "\\div", "\\div": "\\cdot"}


def inverse(fact: Fact) -> str | None:
    """``105 \\div 3 = 35`` for ``35 \\cdot 3 = 105``; ``None`` where the formula is no such one."""
    if isinstance(fact.value, str | Root):
        return None
    for expr in fact.expr:
        found = _BINARY.fullmatch(expr)
        if found is None or (found[2] == "\\cdot" and found[3].strip("()") == "0"):
            continue
        result = tex(fact.value)
        result = f"({result})" if result.startswith("-") else result
        return f"{result} {_UNDONE[found[2]]} {found[3]} = {found[1].strip('()')}"
    return None


def remarks(fact: Fact, rng: Random) -> list[str]:
    """Clauses about the size and the kind of its value, in a random order."""
    value = fact.value
    if isinstance(value, str):
        return []
    if isinstance(value, Root):
        square = value.factor**2 * value.radicand
        low = isqrt(int(square))
        size = float(value.factor) * float(value.radicand) ** 0.5
        found = [
            f"that's about ${size:.2f}$",
            f"its square is ${tex(square)}$",
            f"it lies between ${low}$ and ${low + 1}$",
        ]
    elif Fraction(value).denominator > 1:
        found = _of_fraction(Fraction(value))
    else:
        found = _of_whole(int(value))
    rng.shuffle(found)
    return found


def _of_fraction(value: Fraction) -> list[str]:
    whole = value.numerator // value.denominator
    found = [
        f"that's about ${float(value):.2f}$",
        f"it lies between ${whole}$ and ${whole + 1}$",
        f"times ${value.denominator}$ it is ${value.numerator}$",
        f"its reciprocal is ${tex(1 / value)}$",
        f"twice that would be ${tex(2 * value)}$",
    ]
    if value > 1:
        found.append(f"that's ${whole}$ and a rest of ${tex(value - whole)}$")
    return found


def _of_whole(value: int) -> list[str]:
    size = abs(value)
    found = [f"${value}$ is {'even' if value % 2 == 0 else 'odd'}"]
    if size < 4:
        return found
    root = isqrt(size)
    found += [
        f"half of that would be ${tex(Fraction(value, 2))}$",
        f"twice that would be ${2 * value}$",
        f"the digits of ${size}$ add up to ${sum(map(int, str(size)))}$",
        f"${size}$ lies between ${root}^2 = {root**2}$ and ${root + 1}^2 = {(root + 1) ** 2}$"
        if root**2 != size
        else f"${size}$ happens to be a square, ${root}^2$",
    ]
    smallest = next((p for p in range(2, root + 1) if size % p == 0), None)
    if smallest is None:
        found.append(f"${size}$ is a prime")
    else:
        found.append(f"${size} = {smallest} \\cdot {size // smallest}$")
        found.append(f"it's a multiple of ${smallest}$, namely ${size // smallest}$ times that")
    if size > 30:
        tens = round(size, -1)
        found.append(f"that's roughly ${tens}$")
        found.append(f"${size} = {size // 10 * 10} + {size % 10}$")
    return found


def mistake(fact: Fact, rng: Random) -> dict[str, str] | None:
    """Slots for what somebody would get who slipped here: ``bad``, ``wrong`` and ``note``."""
    slips = [slip for slip in fact.slips if slip.expr is not None and slip.notes]
    if not slips:
        return None
    slip = rng.choice(slips)
    return {
        "bad": f"${slip.expr}$",
        "wrong": f"${tex(slip.value)}$",
        "note": rng.choice(slip.notes),
    }
