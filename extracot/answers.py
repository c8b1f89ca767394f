r"""The final answer of a reply: finding it, the last balanced ``\boxed{...}``, and judging it.

:func:`same_plain_answer` judges what needs no algebra: numbers, units, numerals, words. The rest is
for a verifier to say (math-verify, in training).
"""

from __future__ import annotations

import re
from fractions import Fraction

from extracot.quantities import Numeral, Quantity, Words, plain_text, read, units_differ

GRADER = "extracot.answers 1"
"""Names the rules of :func:`same_plain_answer`, for reports; it changes when a verdict does."""

# One pass over what can open, close or hide a brace. Backslashes before "boxed" may be doubled
# (text that went through JSON twice); any other escaped character, braces among them, is skipped.
_TOKEN = re.compile(r"(?P<boxed>\\+boxed\s*\{)|\\.|(?P<open>\{)|(?P<close>\})", re.DOTALL)


def extract_answer(text: str) -> str | None:
    r"""Content of the last balanced, non-blank ``\boxed{...}``, stripped; ``None`` without one.

    Nested braces and escaped ones (``\{``) are kept. "Last" goes by where a box opens, so of
    nested boxes the inner one counts. Blank boxes are passed over, because a model that repeats
    its instructions writes one. Runs in linear time.

    >>> extract_answer(r"so \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    opened: list[tuple[int, bool]] = []  # (where the content starts, is it a box)
    best_start, best = -1, None
    for match in _TOKEN.finditer(text):
        if match["boxed"] or match["open"]:
            opened.append((match.end(), match["boxed"] is not None))
        elif match["close"] and opened:
            start, is_box = opened.pop()
            if is_box and start > best_start and text[start : match.start()].strip():
                best_start, best = start, text[start : match.start()].strip()
    return best


def same_plain_answer(answer: str, gold: str) -> bool | None:
    r"""Whether two bare answers say the same; ``None``: that is no plain matter.

    A number with only words behind it is that number; more digits behind a unit, or another base,
    is another answer. Units count where both are given and measure the same thing. ``50%`` is 50
    where the sign is left out, and 0.5. A base that one of the two leaves out is the other's.
    Words are compared as words, whatever their case; an interval is no set.

    >>> same_plain_answer("18 dollars", "18"), same_plain_answer("3 feet 6 inches", "3")
    (True, False)
    """
    if plain_text(answer) == plain_text(gold):
        return bool(plain_text(gold))
    left, right = read(answer), read(gold)
    match left, right:
        case None, None:
            return _brackets(answer, gold)
        case None, _:
            return None
        case _, None:
            return None
        case Words(), Words():
            return left == right
        case Numeral(), Numeral():
            return left == right
        case tuple(), tuple():
            same = len(left) == len(right)
            return same and all(map(_same_quantity, left, right))
        case (Numeral() as numeral, (Quantity() as number,)) | (
            (Quantity() as number,),
            Numeral() as numeral,
        ):
            return not number.unit and _digits(number.value) == numeral.digits
    return False


def _same_quantity(left: Quantity, right: Quantity) -> bool:
    if left.clock != right.clock or units_differ(left.unit, right.unit):
        return False
    if left.value == right.value:
        return True
    if left.is_percent == right.is_percent or (left.unit and right.unit):
        return False
    share, other = (left, right) if left.is_percent else (right, left)
    return share.value / 100 == other.value


def _digits(value: Fraction) -> str | None:
    return str(value.numerator) if value.denominator == 1 else None


def _brackets(answer: str, gold: str) -> bool | None:
    """False for an interval beside a set, or beside one that is open elsewhere."""
    kinds = [
        _kind(plain_text(text).replace("\\{", "{").replace("\\}", "}")) for text in (answer, gold)
    ]
    return False if None not in kinds and kinds[0] != kinds[1] else None


def _kind(text: str) -> str | None:
    """Which brackets enclose a whole list; ``None`` for what is none."""
    if len(text) < 2 or text[0] not in "([{" or text[-1] not in ")]}" or "," not in text:
        return None
    depth = 0
    for at, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and at < len(text) - 1:
            return None  # several, side by side
    return text[0] + text[-1]
