r"""The final answer of a reply: finding it, the last balanced ``\boxed{...}``, and judging it.

:func:`same_plain_answer` judges what needs no algebra: numbers, units, numerals, words. The rest is
for a verifier to say (math-verify, in training).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import accumulate

from extracot.letters import same_letters
from extracot.notation import chosen, in_one_notation
from extracot.number_words import NUMBER
from extracot.quantities import (
    LONGEST,
    Numeral,
    Quantity,
    Words,
    plain_text,
    read_plain,
)
from extracot.separators import in_one_piece
from extracot.units import units_differ

GRADER = "extracot.answers 5"
"""Names the rules of :func:`same_plain_answer`, for reports; it changes when a verdict does."""

_END = rf"(?:\$ ?)?{NUMBER}(?::\d\d)?"
_RATIO = re.compile(r"\d{1,9}(?:(?: ?: ?\d{1,9})+|(?: to \d{1,9})+)")
_RANGE = re.compile(
    rf"(?P<low>{_END})(?P<unit> ?[A-Za-z%.]+)?? ?(?P<by>-|to) ?"
    rf"(?P<high>{_END})(?P<end> ?[A-Za-z% .]+)?"
)

# One pass over what can open, close or hide a brace. Backslashes before "boxed" may be doubled
# (text that went through JSON twice); any other escaped character, braces among them, is skipped.
_TOKEN = re.compile(r"(?P<boxed>\\+boxed\s*\{)|\\.|(?P<open>\{)|(?P<close>\})", re.DOTALL)

_BETWEEN_DIGITS = re.compile(r"(?<=\d)(?:\s|~|\\[ ,;:])+(?=\d)")
_SPACES = re.compile(r"\\[ ,;:!]|\\(?:quad|qquad|left|right)(?![a-zA-Z])|\s+|~")
_WRAPPERS = (("\\text{", "}"), ("\\mathrm{", "}"), ("\\textbf{", "}"), ("$", "$"), ("{", "}"))


def extract_answer(text: str) -> str | None:
    r"""Content of the last balanced, non-blank ``\boxed{...}``, stripped; ``None`` without one.

    Nested braces and escaped ones (``\{``) are kept. "Last" goes by where a box opens, so of
    nested boxes the inner one counts. Blank boxes are passed over, because a model that repeats
    its instructions writes one. Runs in linear time.

    >>> extract_answer(r"so \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    best_start, best = -1, None
    for start, end in _boxes(text):
        if start > best_start and (content := text[start:end].strip()):
            best_start, best = start, content
    return best


def boxes(text: str) -> list[str]:
    r"""Contents of all balanced, non-blank ``\boxed{...}`` that are in no other, in order.

    >>> boxes(r"either \boxed{1} or \boxed{2}")
    ['1', '2']
    """
    found: list[str] = []
    within = 0
    for start, end in sorted(_boxes(text)):
        if start >= within and (content := text[start:end].strip()):
            found.append(content)
            within = end
    return found


def _boxes(text: str) -> Iterator[tuple[int, int]]:
    """Where each balanced box's content starts and ends, in order of the ends."""
    opened: list[tuple[int, bool]] = []  # (where the content starts, is it a box)
    for match in _TOKEN.finditer(text):
        if match["boxed"] or match["open"]:
            opened.append((match.end(), match["boxed"] is not None))
        elif match["close"] and opened:
            start, is_box = opened.pop()
            if is_box:
                yield start, match.start()


def same_plain_answer(answer: str, gold: str) -> bool | None:
    r"""Whether two bare answers say the same; ``None``: that is no plain matter.

    A number with only words behind it is that number; more digits behind a unit, or another base,
    is another answer. Units count where both are given and measure the same thing; two of which one
    is in no ASCII letters stay undecided. ``50%`` is 50 where the sign is left out, and 0.5. A base
    that one of the two leaves out is the other's. Words are compared as words, whatever their case;
    an interval is no set. A choice's letter with its value, ``(D) 5``, counts where the gold is
    that letter. An expression, be it but ``7 - 3``, is not plain, unless it is a sum of letters
    (:mod:`extracot.letters`).

    >>> same_plain_answer("18 dollars", "18"), same_plain_answer("3 feet 6 inches", "3")
    (True, False)
    """
    texts = plain_text(answer), plain_text(gold)
    texts = chosen(*texts), texts[1]
    if texts[0] == texts[1]:
        return bool(texts[0])
    if (same := same_letters(*texts)) is not None or (same := _ratios(*texts)) is not None:
        return same
    left, right = map(read_plain, texts)
    if None in (left, right) and (ranges := _ranges(*texts)) is not None:
        return ranges
    match left, right:
        case None, None:
            return _brackets(*texts)
        case None, _:
            return None
        case _, None:
            return None
        case Words(), Words():
            return left == right
        case Numeral(), Numeral():
            return left == right
        case tuple(), tuple():
            found = {*map(_same_quantity, left, right)}
            return False if len(left) != len(right) or False in found else None not in found or None
        case (Numeral() as numeral, (Quantity() as number,)) | (
            (Quantity() as number,),
            Numeral() as numeral,
        ):
            same = not number.unit and _digits(number.value) == numeral.digits
            return same and numeral.is_possible
    return False


def _ratios(answer: str, gold: str) -> bool | None:
    """Whether two ratios are the same that are written in two ways, ``6:4`` and ``3 to 2``."""
    if not (_RATIO.fullmatch(answer) and _RATIO.fullmatch(gold)):
        return None
    numbers = [re.findall(r"\d+", text) for text in (answer, gold)]
    if ("to" in answer) == ("to" in gold) or any(
        number[0] == "0" < number for number in (*numbers[0], *numbers[1])
    ):
        return None  # 10:05 is a time
    (first, *left), (second, *right) = ([int(number) for number in text] for text in numbers)
    if not first or not second:
        return numbers[0] == numbers[1]
    return len(left) == len(right) and all(
        first * other == second * one for one, other in zip(left, right, strict=True)
    )


def _ranges(answer: str, gold: str) -> bool | None:
    """Whether two ranges are the same, ``5-10 days`` and ``5 to 10 days``; ``None``: not both are,
    or their ends are no quantities, as in ``25x - 80``.

    Two that differ and say ``to`` in neither may be differences, as ``5-10`` is.
    """
    if max(len(answer), len(gold)) > LONGEST:
        return None
    first, second = (_RANGE.fullmatch(in_one_piece(text)) for text in (answer, gold))
    if first is None or second is None:
        return None
    lows = [read_plain(one["low"] + (one["unit"] or one["end"] or "")) for one in (first, second)]
    highs = [read_plain(one["high"] + (one["end"] or "")) for one in (first, second)]
    if not all(isinstance(end, tuple) for end in (*lows, *highs)):
        return None
    same = lows[0] == lows[1] and highs[0] == highs[1]
    return same if "to" in (first["by"], second["by"]) else (same or None)


def _same_quantity(left: Quantity, right: Quantity) -> bool | None:
    """``None``: the same number with two units of which one is in another language's letters."""
    if not _same_clock(left, right) or units_differ(left.unit, right.unit):
        return False
    if left.value == right.value:
        return None if _foreign(left.unit, right.unit) else True
    if left.is_percent == right.is_percent or (left.unit and right.unit):
        return False
    share, other = (left, right) if left.is_percent else (right, left)
    return share.value / 100 == other.value


def _foreign(left: tuple[str, ...], right: tuple[str, ...]) -> bool:
    """Whether two units differ that :func:`units_differ` may not know."""
    one, other = ([word for word in unit if word != "%"] for unit in (left, right))
    letters = filter(str.isalpha, "".join((*one, *other)))
    return bool(one and other) and one != other and not all(map(str.isascii, letters))


def _same_clock(left: Quantity, right: Quantity) -> bool:
    """``3:00`` is 3 p.m. and 3 o'clock, but no bare 3."""
    if left.clock == right.clock:
        return True
    with_minutes, without = (left, right) if left.clock else (right, left)
    return (with_minutes.clock, without.clock) == (":00", "") and without.is_time_of_day


def _digits(value: Fraction) -> str | None:
    return str(value.numerator) if value.denominator == 1 else None


def _brackets(answer: str, gold: str) -> bool | None:
    """False for an interval beside a set, or beside one that is open elsewhere."""
    kinds = [_kind(text.replace("\\{", "{").replace("\\}", "}")) for text in (answer, gold)]
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


def same_answer(found: str | None, gold: str) -> bool:
    r"""Whether ``found`` says what ``gold`` says: by the rules of :func:`same_plain_answer`, else
    as the same text in one notation. ``None`` is no answer.

    There is no algebra in it: ``x+1`` and ``1+x`` differ here.

    >>> same_answer(r"\$1,200", "1200.0"), same_answer(r"\dfrac{1}{2}", "0.5")
    (True, True)
    """
    if found is None:
        return False
    same = same_plain_answer(found, gold)
    if same is not None:
        return same
    found, gold = in_one_notation(found, gold)
    return tidy(plain_text(found)) == tidy(plain_text(gold))


def tidy(answer: str) -> str:
    """The answer without spacing (but between two digits), dollar signs and ``\\text{}`` around it,
    or a final full stop."""
    pieces = _BETWEEN_DIGITS.split(answer.strip())
    text = (
        " ".join(_SPACES.sub("", piece) for piece in pieces)
        .replace("\\$", "")
        .replace("\\%", "%")
        .rstrip(".")
    )
    text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    changed = len(text) <= LONGEST
    while changed:
        changed = False
        for start, end in _WRAPPERS:
            if text.startswith(start) and text.endswith(end) and len(text) > len(start):
                inner = text[len(start) : -len(end)]
                if _balanced(inner):
                    text, changed = inner, True
    return text


def _balanced(text: str) -> bool:
    depths = list(accumulate({"{": 1, "}": -1}.get(character, 0) for character in text))
    return not depths or (min(depths) >= 0 and depths[-1] == 0)
