"""Whole-number calculations, written out so that each step needs one digit or one table.

Sums and differences go place by place from the ones, with every carry named and the digits so far
written again in front of each other; products go by parts, quotients by long division. The form is
always the same: it is the words around it that vary. All numbers are computed here. Knows no
question and no story.
"""

from __future__ import annotations

import re

from extracot_training.synthetic.story import Op

PLACES: tuple[str, ...] = (
    "ones",
    "tens",
    "hundreds",
    "thousands",
    "ten thousands",
    "hundred thousands",
)
PLACES += ("millions", "ten millions")
TABLE = 12
_SIGNS = {"*": "×", "/": "÷"}
# An equation that is no part of a longer one.
_EQUATION = re.compile(
    r"(?<![\d.=+×÷*/-] )(?<![\d.])(\d+(?: [-+×÷] \d+)+) = (\d+)(?!\d|\.\d| [-+×÷*/=])"
)
# A typed sign between two numbers.
_TYPED = re.compile(r"(?<=[\d)] )[*/](?= [\d(])")
_LATEX = re.compile(r"\$([^$\n]*=[^$\n]*)\$")


def result(op: Op, left: int, right: int) -> int:
    """What the calculation makes; a quotient is the whole part."""
    match op:
        case Op.ADD:
            return left + right
        case Op.SUB:
            return left - right
        case Op.MUL:
            return left * right
        case Op.DIV:
            return left // right


def plain(op: Op, left: int, right: int) -> str:
    """``347 + 285 = 632``."""
    return f"{left} {op.value} {right} = {result(op, left, right)}"


def working(op: Op, left: int, right: int, *, always: bool = False) -> str:
    """The calculation as one equation, or written out before it where it is hard.

    ``always`` writes out what has two digits on both sides too, as a question for nothing else
    does. A quotient must be exact, a difference not below zero.

    >>> working(Op.ADD, 48, 24)
    '48 + 24 = 72'
    >>> working(Op.ADD, 347, 85)
    '347 + 85: ones 7 + 5 = 12, write 2, carry 1; tens 4 + 8 + 1 = 13, write 32, carry 1; \
hundreds 3 + 1 = 4, write 432; so 347 + 85 = 432'
    """
    if not is_written(op, left, right, always=always):
        return plain(op, left, right)
    return f"{left} {op.value} {right}: {steps(op, left, right)}; so {plain(op, left, right)}"


def written_out(text: str, *, always: bool = False) -> str:
    """A text in the signs of print, whose hard equations of two terms, or of sums and differences,
    are written out where they stand. ``always`` as in :func:`working`.

    >>> written_out("So $56 + 9 = 65$, and 56 * 9 = 504.")
    'So 56 + 9 = 65, and 56 × 9: 50 × 9 = 450, 6 × 9 = 54, 450 + 54 = 504; so 56 × 9 = 504.'
    """
    text = _LATEX.sub(lambda found: found[1].replace("\\times", "×").replace("\\div", "÷"), text)
    text = _TYPED.sub(lambda found: _SIGNS[found[0]], text)
    return _EQUATION.sub(lambda found: _written_equation(found, always=always), text)


def _written_equation(found: re.Match[str], *, always: bool) -> str:
    first, *rest = found[1].split(" ")
    pairs = [(Op(sign), int(n)) for sign, n in zip(rest[::2], rest[1::2], strict=True)]
    plain_sums = all(op in (Op.ADD, Op.SUB) for op, _ in pairs)
    value, told, hard = int(first), [], False
    for op, number in pairs:
        hard = hard or (number > 0 and is_written(op, value, number, always=always))
        if hard and op is Op.SUB and number > value:
            return found[0]
        told.append((op, value, number))
        value = result(op, value, number) if number or op is not Op.DIV else 0
    if not hard or value != int(found[2]) or not (plain_sums or len(pairs) == 1):
        return found[0]
    return ", ".join(working(*one, always=always) for one in told)


def steps(op: Op, left: int, right: int) -> str:
    """What stands between the colon and the equation."""
    match op:
        case Op.ADD:
            return _sum(left, right)
        case Op.SUB:
            return _difference(left, right)
        case Op.MUL:
            return _product(left, right)
        case Op.DIV:
            return division(left, right)


def is_hard(op: Op, left: int, right: int) -> bool:
    """Whether a small model would rather guess this than know it.

    >>> [is_hard(Op.ADD, 48, 24), is_hard(Op.ADD, 121, 105), is_hard(Op.ADD, 200, 150)]
    [False, True, False]
    >>> [is_hard(Op.MUL, 12, 9), is_hard(Op.MUL, 56, 9), is_hard(Op.DIV, 280, 7)]
    [False, True, False]
    """
    if op in (Op.ADD, Op.SUB):
        while left and right and left % 10 == 0 and right % 10 == 0:
            left, right = left // 10, right // 10
        if max(left, right) < 100 or right < 10 or (op is Op.ADD and left < 10):
            return False
        return _meeting(left, right) > 1 if op is Op.ADD else not _takes_one_digit(left, right)
    if op is Op.MUL:
        return not (
            (_core(left) <= TABLE and _core(right) <= TABLE) or _is_power(left) or _is_power(right)
        )
    return not (_is_power(right) or (right <= TABLE and _core(left) <= TABLE * right))


def is_written(op: Op, left: int, right: int, *, always: bool) -> bool:
    """Whether :func:`working` writes it out."""
    return is_hard(op, left, right) or (always and _is_long(op, left, right))


def _is_long(op: Op, left: int, right: int) -> bool:
    if op in (Op.ADD, Op.SUB):
        return min(left, right) >= 10 or max(left, right) >= 100
    return False


def _is_power(value: int) -> bool:
    """Whether it only moves digits: 1, 10, 100, 1000."""
    return value in (1, 10, 100, 1000)


def _core(value: int) -> int:
    """A number without the zeros at its end: 280 is 28 there."""
    while value and value % 10 == 0:
        value //= 10
    return value


def _meeting(left: int, right: int) -> int:
    """In how many places both numbers have a digit other than zero."""
    pairs = zip(str(left)[::-1], str(right)[::-1], strict=False)
    return sum(a != "0" != b for a, b in pairs)


def _takes_one_digit(left: int, right: int) -> bool:
    """Whether one digit alone is taken away, from a digit that is large enough."""
    zeros = len(str(right)) - 1
    unit = int("1" + "0" * zeros)
    return right % unit == 0 and left // unit % 10 >= right // unit


def _digits(value: int) -> list[int]:
    return [int(digit) for digit in reversed(str(value))]


def _sum(left: int, right: int) -> str:
    columns = [_digits(left), _digits(right)]
    parts, carry, written = [], 0, ""
    count = max(map(len, columns))
    for place in range(count):
        digits = [column[place] for column in columns if place < len(column)]
        digits += [carry] if carry else []
        total = sum(digits)
        told = " + ".join(map(str, digits)) + (f" = {total}" if len(digits) > 1 else "")
        last = place == count - 1
        carry, digit = (0, total) if last else divmod(total, 10)
        written = f"{digit}{written}"
        parts.append(f"{PLACES[place]} {told}, write {written}{', carry 1' if carry else ''}")
    return "; ".join(parts)


def _difference(left: int, right: int) -> str:
    """``left`` is at least ``right``."""
    upper, lower = _digits(left), _digits(right)
    parts, borrow, written = [], 0, ""
    for place, digit in enumerate(upper):
        taken = [borrow] if borrow else []
        taken += [lower[place]] if place < len(lower) else []
        borrow = int(digit < sum(taken))
        whole = digit + 10 * borrow
        rest = whole - sum(taken)
        told = " - ".join(map(str, [whole, *taken])) + (f" = {rest}" if taken else "")
        written = f"{rest}{written}"
        if place == len(upper) - 1:
            written = str(int(written))
        parts.append(f"{PLACES[place]} {told}, write {written}{', borrow 1' if borrow else ''}")
    return "; ".join(parts)


def _parts(value: int) -> list[int]:
    """347 as 300, 40 and 7."""
    return [digit * 10**place for place, digit in enumerate(_digits(value)) if digit][::-1]


def _by_parts(left: int, right: int) -> str:
    """A product whose right side has one digit other than zero."""
    parts = _parts(left)
    told = [plain(Op.MUL, part, right) for part in parts]
    sofar = parts[0] * right
    for part in parts[1:]:
        told.append(plain(Op.ADD, sofar, part * right))
        sofar += part * right
    return ", ".join(told)


def _product(left: int, right: int) -> str:
    if len(_parts(right)) > 1 and (len(_parts(left)) == 1 or len(str(left)) < len(str(right))):
        left, right = right, left
    parts = _parts(right)
    if len(parts) == 1:
        return _by_parts(left, right)
    told, sofar = [], 0
    for part in reversed(parts):
        made = left * part
        easy = not is_hard(Op.MUL, left, part)
        told.append(
            plain(Op.MUL, left, part) if easy else f"{left} × {part}: {_by_parts(left, part)}"
        )
        if sofar:
            told.append(f"{sofar} + {made}: {_sum(sofar, made)}")
        sofar += made
    return "; ".join(told)


def division(left: int, right: int) -> str:
    """Long division, to the remainder: ``50 holds 5 × 9 = 45, 50 - 45 = 5, write 5; 54 holds …``.

    The first digits that hold the divisor come first. Divisors from 20 on are tried as often as
    their first digit goes, and once less where that was too much.
    """
    digits = str(left)
    first = next((n for n in range(1, len(digits)) if int(digits[:n]) >= right), len(digits))
    parts, written, rest = [], "", 0
    for place in range(first, len(digits) + 1):
        chunk = int(digits[:first]) if place == first else rest * 10 + int(digits[place - 1])
        times = chunk // right
        rest = chunk - times * right
        written += str(times)
        told = [*_too_much(chunk, right), f"{chunk} holds {_taken(times, right)}"]
        told.append(f"{chunk} - {times * right} = {rest}")
        parts.append(f"{', '.join(told)}, write {written}")
    return "; ".join(parts)


def _too_much(chunk: int, right: int) -> list[str]:
    """What was tried before and is more than there is."""
    if right < 20:
        return []
    head, zeros = int(str(right)[0]), len(str(right)) - 1
    guess = min(9, chunk // 10**zeros // head)
    return [f"{_taken(n, right)} is too much" for n in range(guess, chunk // right, -1)]


def _taken(times: int, right: int) -> str:
    """``5 × 9 = 45``, ``7 × 56 = 350 + 42 = 392``."""
    parts = [times * part for part in _parts(right)]
    split = (
        f"{' + '.join(map(str, parts))} = " if len(parts) > 1 and right > TABLE and times else ""
    )
    return f"{times} × {right} = {split}{times * right}"
