"""Calculations that are asked for: their numbers, how they are worked out, and what they make.

A task knows its parts as text, so that :mod:`.asking` can ask for it in many ways, and its working
as sentences. Numbers are drawn alike often by length, so that short ones are not rare.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from extracot_training.synthetic.arithmetic.spelling import decimal, money
from extracot_training.synthetic.arithmetic.written import division, result, working
from extracot_training.synthetic.story import INVERSE, Op

# A product is checked by dividing only up to this divisor.
TABLE_TO = 20


@dataclass(frozen=True, slots=True)
class Task:
    """``kind`` names the ways of asking; ``parts`` are what they put in. ``working`` are the
    sentences that work it out, ``check`` those that do so from the other side, if any."""

    kind: str
    parts: Mapping[str, str]
    working: tuple[str, ...]
    answer: str
    check: tuple[str, ...] = ()


def number(rng: Random, longest: int = 3, least: int = 2) -> int:
    """A number of up to ``longest`` digits; each length is drawn alike often, one digit less."""
    weights = [0.4, 1.0, 1.2, 0.3][:longest]
    (length,) = rng.choices(range(1, longest + 1), weights)
    low = max(least, 10 ** (length - 1))
    value = rng.randint(low, max(low, 10**length - 1))
    rounded = value - value % 10
    return rounded if rounded >= low and rng.random() < 0.1 else value


def _two(kind: str, op: Op, left: int, right: int) -> Task:
    made = result(op, left, right)
    parts = {"a": str(left), "b": str(right)}
    back = INVERSE[op]
    check = () if op is Op.MUL and right > TABLE_TO else (working(back, made, right),)
    return Task(kind, parts, (working(op, left, right, always=True),), str(made), check)


def total(rng: Random) -> Task:
    return _two("sum", Op.ADD, number(rng), number(rng))


def difference(rng: Random) -> Task:
    right, left = sorted((number(rng), number(rng)))
    if rng.random() < 0.06 and left != right:
        made = working(Op.SUB, left, right, always=True)
        told = f"{right} is less than {left}, so the result is below zero", made
        parts = {"a": str(right), "b": str(left)}
        return Task("below", parts, told, str(right - left))
    return _two("difference", Op.SUB, left, right)


def product(rng: Random) -> Task:
    left, right = number(rng, 2), number(rng, 2)
    if rng.random() < 0.15:
        left, right = number(rng, 3), rng.randint(2, 9)
        left, right = rng.sample((left, right), 2)
    return _two("product", Op.MUL, left, right)


def quotient(rng: Random) -> Task:
    right = rng.choice((rng.randint(2, 9), rng.randint(2, 12), rng.randint(10, 99)))
    times = rng.randint(2, max(2, 999 // right))
    return _two("quotient", Op.DIV, right * times, right)


def remainder(rng: Random) -> Task:
    right = rng.choice((rng.randint(2, 9), rng.randint(2, 12), rng.randint(13, 99)))
    left = rng.randint(right + 1, min(999, right * 60))
    times, rest = divmod(left, right)
    kind, asked = rng.choice((("remainder", rest), ("times", times)))
    told = f"{left} ÷ {right}: {division(left, right)}"
    told += f"; so {left} ÷ {right} is {times} with {rest} left over"
    return Task(kind, {"a": str(left), "b": str(right)}, (told,), str(asked))


def halves(rng: Random) -> Task:
    """A quotient that ends in ``.5``, ``.25`` and the like."""
    right = rng.choice((2, 2, 4, 5, 8, 10))
    left = number(rng, 3, right + 1)
    left += left % right == 0
    rest = left % right
    part = decimal(1000 * rest // right, 3)
    told = f"{left} ÷ {right}: {division(left, right)}; {rest} is left"
    made = decimal(1000 * left // right, 3)
    told = f"{told} and {rest} ÷ {right} = {part}; so {left} ÷ {right} = {made}"
    return Task("halves", {"a": str(left), "b": str(right)}, (told,), made)


def chain(rng: Random) -> Task:
    """Two calculations, with or without brackets, or several sums and differences in a row."""
    if rng.random() < 0.5:
        return _row(rng)
    first, second = number(rng, 2), rng.randint(2, 12)
    made = first * second
    other = number(rng, 3)
    op = rng.choice((Op.ADD, Op.SUB)) if other <= made else Op.ADD
    told = working(Op.MUL, first, second), working(op, made, other)
    text = f"{first} × {second} {op.value} {other}"
    answer = result(op, made, other)
    if op is Op.ADD and rng.random() < 0.5:
        text = f"{other} + {first} × {second}"
        told = told[0], working(op, other, made)
    if rng.random() < 0.35:
        low, high = sorted((number(rng, 2), number(rng, 2)))
        op = rng.choice((Op.ADD, Op.SUB)) if high - low > 1 else Op.ADD
        inner = result(op, high, low)
        text = f"({high} {op.value} {low}) × {second}"
        told = working(op, high, low), working(Op.MUL, inner, second)
        answer = inner * second
    return Task("chain", {"e": text}, told, str(answer))


def _row(rng: Random) -> Task:
    value = number(rng)
    text, told = str(value), []
    for _ in range(rng.randint(2, 3)):
        term = number(rng, 2)
        op = rng.choice((Op.ADD, Op.SUB)) if term <= value else Op.ADD
        text += f" {op.value} {term}"
        told.append(working(op, value, term))
        value = result(op, value, term)
    return Task("chain", {"e": text}, tuple(told), str(value))


def prices(rng: Random) -> Task:
    """Amounts of money with cents: reckoned in cents."""
    left, right = sorted((_price(rng), _price(rng)), reverse=True)
    kind, op = rng.choice((("sum", Op.ADD), ("difference", Op.SUB), ("product", Op.MUL)))
    sign = rng.choice(("$", "$", "€", "£"))
    if op is Op.MUL:
        left, right = rng.choice((left, right)), rng.randint(2, 9)
        made = left * right
        told = f"{money(left)} is {left} cents", working(op, left, right), _back(made)
        parts = {"a": f"{sign}{money(left)}", "b": str(right)}
        return Task("price product", parts, told, money(made))
    made = result(op, left, right)
    known = f"{money(left)} is {left} cents and {money(right)} is {right} cents"
    parts = {"a": f"{sign}{money(left)}", "b": f"{sign}{money(right)}"}
    told = known, working(op, left, right, always=True), _back(made)
    return Task(f"price {kind}", parts, told, money(made))


def _price(rng: Random) -> int:
    cents = rng.choice(
        (0, 5, 10, 20, 25, 25, 40, 50, 50, 50, 60, 75, 80, 95, 99, rng.randint(1, 98))
    )
    return 100 * rng.randint(1, rng.choice((5, 20, 60))) + cents


def _back(cents: int) -> str:
    return f"{cents} cents is {money(cents)}"


def decimals(rng: Random) -> Task:
    """Numbers with a tenth: reckoned in tenths."""
    left, right = sorted((number(rng, 3, 11), number(rng, 3, 11)), reverse=True)
    kind, op = rng.choice((("sum", Op.ADD), ("difference", Op.SUB)))
    first, second = decimal(left, 1), decimal(right, 1)
    made = result(op, left, right)
    known = f"{first} is {left} tenths and {second} is {right} tenths"
    told = known, working(op, left, right, always=True), f"{made} tenths is {decimal(made, 1)}"
    return Task(kind, {"a": first, "b": second}, told, decimal(made, 1))


def percent(rng: Random) -> Task:
    """A percentage of a number that comes out even: by a known part, or over a hundred."""
    share = rng.choice(
        (10, 20, 25, 50, 75, 5, 1, 30, 40, 60, 70, 80, 90, 15, 35, rng.randint(2, 99))
    )
    step = next(n for n in range(1, 101) if n * share % 100 == 0)
    whole = step * rng.randint(1, max(1, 600 // step))
    return Task(
        "percent",
        {"a": str(share), "b": str(whole)},
        tuple(percent_of(share, whole)),
        str(share * whole // 100),
    )


def percent_of(share: int, whole: int) -> list[str]:
    """The working of a percentage that comes out even."""
    known = {50: 2, 25: 4, 20: 5, 10: 10}
    if share in known and whole % known[share] == 0:
        part = known[share]
        return [f"{share}% is 1 of {part} equal parts", working(Op.DIV, whole, part)]
    if share == 75 and whole % 4 == 0:
        quarter = whole // 4
        told = ["75% is 3 of 4 equal parts", working(Op.DIV, whole, 4)]
        return [*told, working(Op.MUL, quarter, 3)]
    if whole % 10 == 0 and share % 10 == 0:
        tenth = whole // 10
        told = [f"10% of {whole} is {whole} ÷ 10 = {tenth}"]
        return [*told, working(Op.MUL, tenth, share // 10)]
    made = whole * share
    return [working(Op.MUL, whole, share), f"{made} ÷ 100 = {made // 100}"]


FRACTIONS = {
    (1, 2): "half",
    (1, 3): "a third",
    (2, 3): "two thirds",
    (1, 4): "a quarter",
    (3, 4): "three quarters",
    (1, 5): "a fifth",
    (2, 5): "two fifths",
    (3, 5): "three fifths",
    (4, 5): "four fifths",
    (1, 6): "a sixth",
    (5, 6): "five sixths",
    (1, 8): "an eighth",
    (3, 8): "three eighths",
    (1, 10): "a tenth",
    (3, 10): "three tenths",
}


def fraction(rng: Random) -> Task:
    (top, bottom), name = rng.choice(list(FRACTIONS.items()))
    whole = bottom * rng.randint(2, max(3, 480 // bottom))
    part = whole // bottom
    told = [working(Op.DIV, whole, bottom)]
    if top > 1:
        told.append(working(Op.MUL, part, top))
    said = rng.choice((f"{top}/{bottom}", name, name))
    return Task("fraction", {"a": said, "b": str(whole)}, tuple(told), str(part * top))


KINDS: dict[str, tuple[Callable[[Random], Task], float]] = {
    "sum": (total, 4),
    "difference": (difference, 4),
    "product": (product, 4),
    "quotient": (quotient, 3.5),
    "remainder": (remainder, 1),
    "halves": (halves, 0.5),
    "chain": (chain, 1.5),
    "prices": (prices, 1.5),
    "decimals": (decimals, 0.5),
    "percent": (percent, 1),
    "fraction": (fraction, 1),
}
"""What is drawn, and how often beside the others."""
