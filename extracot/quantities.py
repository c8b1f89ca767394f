r"""Plain answers read without algebra: numbers with or without units, numerals in a base, words.

``18 dollars``, ``3 1/2``, ``1e-05``, ``3 feet 6 inches``, ``3:30 p.m.``, ``40_8``, ``Friday``. What
is none of these (an expression, a set, a matrix) is not read at all. Knows no LaTeX but what is
written around plain text: fractions, ``\text{}``, spacing, degrees, powers of ten.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

LONGEST = 400
"""Characters; longer texts are not read."""

_LARGEST_EXPONENT = 400
_UNWRAPPED = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|mathrm|mathbf|mathit|mathsf|mbox|operatorname)\s*\{([^{}]*)\}"
)
_REWRITTEN: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), by)
    for pattern, by in (
        (r"(?<=\d)(?:\{,\}|\\,|\\ |[\u00a0\u2009\u202f])(?=\d{3}(?!\d))", ","),
        (r"\{,\}", ","),
        (r"\\(?:left|right)(?![A-Za-z])|\\!", ""),
        (r"\\(?:[,;: ]|quad(?![a-z])|qquad(?![a-z]))|[~\s]+", " "),
        (r"\^\s*\{?\s*\\circ\s*\}?|\\degree(?![a-z])|°", " degrees "),
        (r"\\(?:[dtc]?frac)\s*(\d)\s*(\d)(?!\d)", r" \1/\2 "),
        (r"(-?)\s*\\[dtc]?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}", r" \1\2/\3 "),
        (r"\s*(?:\\times|\\cdot|×|·)\s*10\s*\^\s*(?:\{\s*([-+]?\d+)\s*\}|([-+]?\d))", r"e\1\2"),
        (r"\\%|(?<=\d)\s*\bper ?cent\b", "%"),
        (r"\\([$#&_])", r"\1"),
        (r"[−–]", "-"),
        (r"\s+\^", "^"),
        (r"\b([A-Za-z])\.(?=[A-Za-z]\b)", r"\1"),
        (r"(?<=\d) and (?:a|one) half\b", " 1/2"),
    )
)
_DOLLAR = re.compile(r"(?<!\\)\$")
_SUPERSCRIPTS = {"²": "^2", "³": "^3"}
_VULGAR = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5"}
_VULGAR |= {"⅗": "3/5", "⅘": "4/5", "⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8"}
_VULGAR |= {"⅞": "7/8"}
_NUMBER = (
    r"(?:\d+\s+\d+/\d+|\d+/\d+|(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?)"
)
_PART = re.compile(
    rf"\s*(?P<currency>[$€£¥]?)\s*(?P<sign>[-+]?)\s*(?P<dear>[$€£¥]?)\s*(?P<number>{_NUMBER})"
    r"(?P<clock>:\d\d(?::\d\d)?)?(?P<unit>(?:[^\d,(){}\[\]=<>+*\\|!:;^]|\^\{?-?\d\}?|[.,](?!\d))*)"
)
_UNIT_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*\.?(?:\^\{?-?\d\}?)?|%|[$€£¥¢]")
_PLAIN_WORDS = re.compile(r"\(?[A-Za-z][A-Za-z' .,-]*\)?")
_CHANGED = re.compile(rf"{_NUMBER} ([A-Za-z' -]+)")
_IN_BASE = re.compile(
    r"(?:[a-z]+\s*=\s*)?(-?)([0-9a-z,]+)(?:\.([0-9a-z]+))?\s*"
    r"_\s*\{?\s*\(?\s*([0-9]{1,2}|[a-z]+)\s*[})\s]*"
)
_SMALL = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
_SMALL += " fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_CARDINALS = {word: n for n, word in enumerate(_SMALL.split())}
_CARDINALS |= {word: 20 + 10 * n for n, word in enumerate(_TENS.split())}
_MULTIPLIERS = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_MULTIPLIERS |= {"trillion": 10**12}
# Words that make of the number before them another one, or none.
_CHANGING_WORDS = """
    or not half halves third thirds fourth fourths fifth fifths sixth sixths seventh sevenths
    eighth eighths ninth ninths tenth tenths hundredth hundredths thousandth thousandths squared
    cubed plus minus modulo mod
"""
_MATHEMATICAL_WORDS = """
    pi tau phi theta alpha beta gamma sqrt sin cos tan cot sec csc log ln lim exp inf infinity
    infty deg gcd lcm min max cis arcsin arccos arctan frac mod det
"""
_CHANGING = frozenset(_CHANGING_WORDS.split())
_MATHEMATICAL = frozenset(_MATHEMATICAL_WORDS.split())
_LETTER_UNITS = frozenset("mgshlvwnjkcfa")
# Units that exclude each other, by what they measure; spellings of one unit share a line's item.
_MEASURES = """
    mm/millimeter/millimetre cm/centimeter/centimetre m/meter/metre km/kilometer/kilometre
    in/inch/inche ft/foot/feet yd/yard mi/mile
    | mg/milligram g/gram kg/kilogram/kilo oz/ounce lb/pound ton/tonne
    | s/sec/second min/minute h/hr/hour day week month year/yr decade century/centurie
    | ml/milliliter/millilitre cl l/liter/litre cup pint quart gallon
    | $/dollar/usd/buck ¢/cent/penny/pennie €/euro £/sterling ¥/yen
    | am pm
"""
_MEASURE = {
    spelling: (dimension, unit)
    for dimension, line in enumerate(_MEASURES.split("|"))
    for unit, item in enumerate(line.split())
    for spelling in item.split("/")
}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number and the words behind it, singular and in lower case; ``clock``: minutes, seconds."""

    value: Fraction
    unit: tuple[str, ...] = ()
    clock: str = ""

    @property
    def is_percent(self) -> bool:
        """A share of a hundred."""
        return self.unit[:1] == ("%",)


@dataclass(frozen=True, slots=True)
class Numeral:
    """Digits in a base that is written beside them."""

    digits: str
    base: int


@dataclass(frozen=True, slots=True)
class Words:
    """Plain words, in lower case but for a single letter."""

    words: tuple[str, ...]


Reading = tuple[Quantity, ...] | Numeral | Words | None
"""Several quantities make one answer (``3 feet 6 inches``). ``None``: not a plain answer."""


def plain_text(answer: str) -> str:
    """The answer without what LaTeX and typography put around plain text; one kind of space."""
    text = answer.strip()
    while len(text) > 1 and text[0] == text[-1] == "$" and not _DOLLAR.search(text[1:-1]):
        text = text[1:-1].strip()
    for sign, written in _SUPERSCRIPTS.items():
        text = text.replace(sign, written)
    for sign, written in _VULGAR.items():
        text = text.replace(sign, f" {written} ")
    text = _UNWRAPPED.sub(r" \1 ", text)
    for pattern, by in _REWRITTEN:
        text = pattern.sub(by, text)
    text = re.sub(r"-\s+(?=\d)", "-", text) if text.lstrip().startswith("-") else text
    return " ".join(text.split()).rstrip(".").strip()


def read(answer: str) -> Reading:
    r"""What a plain answer says; see the module.

    >>> read(r"3\frac{1}{2} \text{ hours}")
    (Quantity(value=Fraction(7, 2), unit=('hour',), clock=''),)
    """
    return read_plain(plain_text(answer)) if len(answer) <= LONGEST else None


def read_plain(text: str) -> Reading:
    """The same of a text that :func:`plain_text` gave."""
    text = _digits_first(text) if len(text) <= LONGEST else ""
    if not text:
        return None
    return _numeral(text) or _quantities(text) or _words(text)


def _digits_first(text: str) -> str:
    """A number word at the beginning as digits: ``twenty-five cents`` → ``25 cents``."""
    first, _, rest = text.partition(" ")
    tens, hyphen, ones = first.lower().partition("-")
    value = _CARDINALS.get(tens)
    if value is None or (hyphen and not (value >= 20 and 0 < _CARDINALS.get(ones, 0) < 10)):
        return text
    return f"{value + _CARDINALS[ones] if hyphen else value} {rest}".strip()


def _numeral(text: str) -> Numeral | None:
    found = _IN_BASE.fullmatch(text.lower())
    if not found:
        return None
    sign, whole, decimals, name = found[1], found[2].replace(",", ""), found[3] or "", found[4]
    base = int(name) if name.isdecimal() else _CARDINALS.get(name, 0)
    if base > 36 or not all(_digit(digit) < base for digit in whole + decimals):
        return None
    decimals = decimals.rstrip("0")
    return Numeral(sign + (whole.lstrip("0") or "0") + ("." + decimals if decimals else ""), base)


def _digit(character: str) -> int:
    return int(character, 36) if character.isascii() else 36


def _quantities(text: str) -> tuple[Quantity, ...] | None:
    found: list[Quantity] = []
    at = 0
    while at < len(text):
        match = _PART.match(text, at)
        quantity = _quantity(match) if match else None
        if match is None or quantity is None:
            return None
        found.append(quantity)
        at = match.end()
    if any(not quantity.unit and not quantity.clock for quantity in found[:-1]):
        return None if "," in text else tuple(found)
    return tuple(found)


def _quantity(match: re.Match[str]) -> Quantity | None:
    value = _value(match["number"])
    unit = _unit(match["unit"])
    if value is None or unit is None or (match["currency"] and match["dear"]):
        return None
    if unit and unit[0] in _MULTIPLIERS:
        value, unit = value * _MULTIPLIERS[unit[0]], unit[1:]
    money = match["currency"] or match["dear"]
    if match["clock"] and (match["sign"] or value.denominator != 1):
        return None
    return Quantity(
        -value if match["sign"] == "-" else value,
        ((money, *unit) if money else unit),
        match["clock"] or "",
    )


def _value(number: str) -> Fraction | None:
    """A decimal, a fraction, or a mixed number with a proper fraction."""
    whole, space, fraction = number.replace(",", "").partition(" ")
    mantissa, _, exponent = whole.lower().partition("e")
    if exponent and abs(int(exponent)) > _LARGEST_EXPONENT:
        return None
    try:
        value = Fraction(whole if exponent else mantissa)
        part = Fraction(fraction.strip()) if space else Fraction(0)
    except (ValueError, ZeroDivisionError):
        return None
    return value + part if part < 1 else None


def _unit(text: str) -> tuple[str, ...] | None:
    """Words behind a number, as one knows them again; ``None`` if they are no mere unit."""
    glued = text[:1].isalpha()
    words = _UNIT_WORD.findall(text)
    if _UNIT_WORD.sub("", text).strip(" .,/'\"-"):
        return None
    plain = [word.lower().replace(".", "").strip("'-") for word in words]
    if any(word in _CHANGING or word in _MATHEMATICAL - {"min", "deg"} for word in plain):
        return None
    for index, word in enumerate(plain):
        letter = word.partition("^")[0]
        alone = len(letter) == 1 and letter.isalpha()
        if alone and (letter not in _LETTER_UNITS or (glued and index == 0)):
            return None
    return tuple(filter(None, map(_singular, plain)))


def _singular(word: str) -> str:
    word = word.partition("^")[0]
    return word[:-1] if len(word) > 2 and word.endswith("s") and not word.endswith("ss") else word


def _words(text: str) -> Words | None:
    changed = _CHANGED.fullmatch(text)
    if changed and not _CHANGING.isdisjoint(changed[1].lower().split()):
        return Words(tuple(text.lower().split()))
    if not _PLAIN_WORDS.fullmatch(text) or (text[0] == "(") != (text[-1] == ")"):
        return None
    found = [word.strip("'-") for word in re.split(r"[\s.,()]+", text)]
    found = [word for word in found if word]
    if any(word.lower() in _MATHEMATICAL for word in found):
        return None
    if len(found) == 1 and len(found[0]) == 1:
        return Words((found[0],))
    if all(len(word) == 1 for word in found):
        return None
    return Words(tuple(word.lower() for word in found))


def units_differ(left: tuple[str, ...], right: tuple[str, ...]) -> bool:
    """Whether two units measure the same thing in another way: hours and minutes, a.m. and p.m."""
    one, other = (next(filter(None, map(_MEASURE.get, words)), None) for words in (left, right))
    return one is not None and other is not None and one[0] == other[0] and one != other
