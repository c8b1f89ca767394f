r"""Plain answers read without algebra: numbers with or without units, numerals in a base, words.

``18 dollars``, ``3 1/2``, ``1e-05``, ``3 feet 6 inches``, ``3:30 p.m.``, ``40_8``, ``Friday``. What
is none of these (an expression, a set, a matrix) is not read at all. Knows no LaTeX but what is
written around plain text: fractions, ``\text{}``, spacing, degrees, powers of ten.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

from extracot.digits import with_periods, with_powers
from extracot.number_words import CARDINALS, MULTIPLIERS, NUMBER, in_digits, number_value
from extracot.separators import in_one_piece, with_decimal_point
from extracot.unit_words import LETTERS, is_letter, scaled
from extracot.units import MEASURE, SHORT

LONGEST = 400
"""Characters; longer texts are not read."""

_UNWRAPPED = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|mathrm|mathbf|mathit|mathsf|mbox|operatorname)\s*\{([^{}]*)\}"
)
_REWRITTEN: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), by)
    for pattern, by in (
        (r"(?<=\d)(?:\{,\}|\\,|\\ |[\u00a0\u2009\u202f])(?=\d{3}(?!\d))", ","),
        (r"\{,\}", ","),
        (r"\{:\}|\\colon(?![A-Za-z])", ":"),
        (r"\\(?:left|right)(?![A-Za-z])|\\!", ""),
        (r"\\(?:[,;: ]|quad(?![a-z])|qquad(?![a-z]))|[~\s]+", " "),
        (r"\^\s*\{?\s*\\circ\s*\}?|\\degree(?![a-z])|°", " degrees "),
        (r"\\(?:[dtc]?frac)\s*(\d)\s*(\d)(?!\d)", r" \1/\2 "),
        (r"(-?)\s*\\[dtc]?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}", r" \1\2/\3 "),
        (r"\s*(?:\\times|\\cdot|×|·)\s*10\s*\^\s*(?:\{\s*([-+]?\d+)\s*\}|([-+]?\d))", r"e\1\2"),
        (r"(?:[µμ]|\\mu(?![a-z])\s*)(?=[mgsLl]\b)", "micro"),
        (r"\bdeg(?=[CF]\b)", "degrees "),
        (r"\\%|(?<=\d)\s*\bper ?cent\b", "%"),
        (r"\\([$#&_])", r"\1"),
        (r"[−–]", "-"),
        (r"[‘’]", "'"),
        (r"\s+\^", "^"),
        (r"\b([A-Za-z])\.(?=[A-Za-z]\b)", r"\1"),
        (r"(?<=\d) and (?:a|one) half\b", " 1/2"),
    )
)
_DOLLAR = re.compile(r"(?<!\\)\$")
_SIGNS = {"℃": "°C", "℉": "°F"}
_VULGAR = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5"}
_VULGAR |= {"⅗": "3/5", "⅘": "4/5", "⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8"}
_VULGAR |= {"⅞": "7/8"}
_SIGN = "[$€£¥₹₩₽₺₫₴₪฿₱₦]"
_CURRENCY = rf"(?:(?:\b(?:US|CA?|AU?))?{_SIGN}|\b(?:USD|EUR|GBP|JPY|INR|CHF|CNY|MXN|CAD|AUD)\b)"
_PART = re.compile(
    rf"\s*(?P<currency>{_CURRENCY}?)\s*(?P<sign>[-+]?)\s*(?P<dear>{_CURRENCY}?)\s*"
    rf"(?P<number>{NUMBER})"
    r"(?P<clock>:\d\d(?::\d\d)?)?(?P<unit>(?:[^\d,(){}\[\]=<>+*\\|!:;^]|\^\{?-?\d\}?|[.,](?!\d))*)"
)
_UNIT_WORD = re.compile(rf"[{LETTERS}][{LETTERS}'-]*\.?(?:\^\{{?-?\d\}}?)?|%|{_SIGN}|¢")
_PLAIN_WORDS = re.compile(rf"\(?[{LETTERS}][{LETTERS}' .,-]*\)?")
# Behind a comma one or two digits, or any number of them where there is but a zero before it.
_DECIMAL_COMMA = re.compile(
    rf"(?P<before>\s*(?P<currency>(?!\$){_CURRENCY})?\s*[-+]?\s*)"
    r"(?P<whole>\d+),(?P<decimals>\d\d?|(?<=(?<!\d)0,)\d+)"
    r"(?P<unit>(?!\d)(?:[^\d,^]|\^\{?-?\d\}?)*)"
)
_CHOICE = re.compile(r"[A-Za-z]\)")
_MINUS = re.compile(r" -+ ?|-+ ")
_CHANGED = re.compile(rf"{NUMBER} ([A-Za-z' -]+)")
_IN_BASE = re.compile(
    r"(?:[a-z]+\s*=\s*)?(-?)(?P<open>\()?(?P<whole>[0-9a-z]{1,3}(?:,[0-9a-z]{3})+|[0-9a-z]+)"
    r"(?:\.(?P<decimals>[0-9a-z]+))?(?(open)\))\s*"
    r"_\s*\{?\s*\(?\s*(?P<base>[0-9]{1,9}|[a-z]+)\s*[})\s]*"
)
# Words that make of the number before them another one, or none.
_CHANGING_WORDS = "or not half halves squared cubed plus minus modulo mod"
_NTHS = """
    third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth
    fifteenth sixteenth seventeenth eighteenth nineteenth twentieth thirtieth fortieth fiftieth
    sixtieth seventieth eightieth ninetieth hundredth thousandth millionth billionth trillionth
"""
_NAMES = """
    pi tau phi theta alpha beta gamma sqrt sin cos tan cot sec csc log ln lim exp inf infinity
    infty deg gcd lcm min max cis arcsin arccos arctan frac mod det
"""
_CHANGING = frozenset(_CHANGING_WORDS.split())
_CHANGING |= {nth + s for nth in _NTHS.split() for s in ("", "s")}
# Behind a number and before another one they make an expression of the two.
_OPERATORS = (" times", " over", " divided by", " multiplied by")
MATHEMATICAL = frozenset(_NAMES.split())
_LARGEST_BASE = 36
_LETTER_UNITS = frozenset("mgshlvwnjkcfa")
_LETTERS = re.compile(r"[a-z](?:-[a-z])+")
_MINUS_LETTER = re.compile(r"-\s+[A-Za-z](?![A-Za-z'])|\s*-[A-Za-z]\s*$")


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

    @property
    def is_time_of_day(self) -> bool:
        """An hour by its words: a.m., p.m., o'clock."""
        return any(word in ("am", "pm", "o'clock") for word in self.unit)


@dataclass(frozen=True, slots=True)
class Numeral:
    """Digits in a base that is written beside them, be they digits of that base or not."""

    digits: str
    base: int | str

    @property
    def is_possible(self) -> bool:
        """Whether the digits are digits of the base."""
        base = self.base
        return isinstance(base, str) or all(_digit(d) < base for d in self.digits if d.isalnum())


@dataclass(frozen=True, slots=True)
class Words:
    """Plain words, in lower case but for a single letter."""

    words: tuple[str, ...]


Reading = tuple[Quantity, ...] | Numeral | Words | None
"""Several quantities make one answer (``3 feet 6 inches``). ``None``: not a plain answer."""


def plain_text(answer: str) -> str:
    """The answer without what LaTeX and typography put around plain text; one kind of space."""
    text = unicodedata.normalize("NFC", answer.strip().rstrip("\\").rstrip())
    text = with_decimal_point(with_periods(with_powers(text)))
    while len(text) > 1 and text[0] == text[-1] == "$" and not _DOLLAR.search(text[1:-1]):
        text = text[1:-1].strip()
    for sign, written in _SIGNS.items():
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
    if not text or len(text) > LONGEST:
        return None
    text = _with_point(in_one_piece(text))
    if numeral := _numeral(text):
        return numeral
    digits = in_digits(text, MEASURE)
    if digits is None:
        return Words(tuple(text.lower().split()))
    return _quantities(digits) or _words(digits) or _words(text)


def _with_point(text: str) -> str:
    """A number with a decimal comma and a unit, with a point: ``12,5 kg``. Alone it may be two, and
    so it may with a dollar sign, which may be mathematics'."""
    found = _DECIMAL_COMMA.fullmatch(text)
    if not found or not (found["currency"] or (_unit(found["unit"]) and found["unit"] != "$")):
        return text
    return f"{found['before']}{found['whole']}.{found['decimals']}{found['unit']}"


def _numeral(text: str) -> Numeral | None:
    found = _IN_BASE.fullmatch(text.lower())
    if not found:
        return None
    whole, decimals, name = found["whole"].replace(",", ""), found["decimals"] or "", found["base"]
    base = int(name) if name.isdecimal() else CARDINALS.get(name, name)
    if not (whole + decimals).isdecimal():  # letters may be digits, or variables
        base = base if isinstance(base, int) and base <= _LARGEST_BASE else 0
        if not all(_digit(digit) < base for digit in whole + decimals):
            return None
    decimals = decimals.rstrip("0")
    digits = (whole.lstrip("0") or "0") + ("." + decimals if decimals else "")
    return Numeral(found[1] + digits, base)


def _digit(character: str) -> int:
    return int(character, 36) if character.isascii() else 36


def _quantities(text: str) -> tuple[Quantity, ...] | None:
    found: list[Quantity] = []
    at = 0
    while at < len(text):
        match = _PART.match(text, at)
        quantity = _quantity(match) if match else None
        if match is None or quantity is None or (found and _is_expression(text[:at], match)):
            return None
        found.append(quantity)
        at = match.end()
    if any(not quantity.unit and not quantity.clock for quantity in found[:-1]):
        return None if "," in text else tuple(found)
    return tuple(found)


def _is_expression(before: str, match: re.Match[str]) -> bool:
    """Whether a number has a sign or another operator between it and what stands before it."""
    return bool(match["sign"]) or before.lower().rstrip().endswith(("-", "/", *_OPERATORS))


def _quantity(match: re.Match[str]) -> Quantity | None:
    value = number_value(match["number"])
    unit = _unit(match["unit"])
    if value is None or unit is None or (match["currency"] and match["dear"]):
        return None
    scale = MULTIPLIERS.get(unit[0], 1) if unit else 1
    further = scaled(unit[1:] if scale > 1 else unit)
    if further is None:
        return None
    scale, unit = scale * further[0], further[1]
    if scale > 1 and unit and (unit[0] in CARDINALS or unit[0] in MULTIPLIERS):
        return None
    money = (match["currency"] or match["dear"]).lower()
    if match["clock"] and (match["sign"] or value.denominator != 1):
        return None
    return Quantity(
        -value * scale if match["sign"] == "-" else value * scale,
        ((money, *unit) if money else unit),
        _clock(match["clock"] or ""),
    )


def _clock(minutes: str) -> str:
    """Without the seconds of a full minute: ``:00:00`` → ``:00``."""
    return minutes.removesuffix(":00") or minutes


def _unit(text: str) -> tuple[str, ...] | None:
    """Words behind a number, as one knows them again; ``None`` if they are no mere unit."""
    glued = text[:1].isalpha()
    words = _UNIT_WORD.findall(text)
    if _UNIT_WORD.sub("", text).strip(" .,/'\"-") or _MINUS_LETTER.search(text):
        return None
    plain = [word.lower().replace(".", "").strip("'-") for word in words]
    if any(word in MATHEMATICAL - {"min", "deg"} or _LETTERS.fullmatch(word) for word in plain):
        return None
    if _changes(plain):
        return None
    for index, word in enumerate(plain):
        letter = word.partition("^")[0]
        alone = len(letter) == 1 and letter.isascii() and letter.isalpha()
        if alone and (letter not in _LETTER_UNITS or (glued and index == 0)):
            return None
        if is_letter(letter, glued=glued and index == 0):
            return None
    if glued and is_product(words[0]):
        return None
    return tuple(filter(None, map(_singular, plain)))


def is_product(word: str) -> bool:
    """Whether a word right behind a number is letters to multiply it by: ``5xy``, ``2ab^2``."""
    letters = word.partition("^")[0].rstrip(".")
    if not 2 <= len(letters) <= 3 or not (letters.islower() and letters.isascii()):
        return False
    return letters not in SHORT and letters.removesuffix("s") not in SHORT


def _changes(words: list[str]) -> bool:
    """Whether words make of the number before them another one, or none."""
    if any(word.rpartition("-")[2] in _CHANGING for word in words):
        return True
    return words[-3:] in (["and", "a", "quarter"], ["and", "one", "quarter"])


def _singular(word: str) -> str:
    if word == "percent":
        return "%"
    word, power, exponent = word.partition("^")
    if len(word) > 2 and word.endswith("s") and not word.endswith(("ss", "bps")):
        word = word[:-1]
    return word + power + exponent.strip("{}")


def _is_changed(words: list[str]) -> bool:
    return _changes(words) or scaled(tuple(map(_singular, words))) is None


def _words(text: str) -> Words | None:
    changed = _CHANGED.fullmatch(text)
    if changed and _is_changed(changed[1].lower().split()):
        return Words(tuple(text.lower().split()))
    text = text[:-1] if _CHOICE.fullmatch(text) else text
    if not _PLAIN_WORDS.fullmatch(text) or (text[0] == "(") != (text[-1] == ")"):
        return None
    pieces = re.split(r"[\s.,()]+", _MINUS.sub(" - ", text))
    found = [word if word == "-" else word.strip("'-") for word in pieces]
    found = [word for word in found if word]
    if any(word.lower() in MATHEMATICAL or is_letter(word, glued=False) for word in found):
        return None
    if len(found) == 1 and len(found[0]) == 1:
        return Words((found[0],))
    if all(len(word) == 1 for word in found):
        return None
    return Words(tuple(word.lower() for word in found))
