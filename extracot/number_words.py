"""Numbers in English words as digits: ``two hundred and five`` → ``205``, ``one half`` → ``1/2``.

Cardinals below a quadrillion, decimals behind ``point``, simple fractions; digits may take the
first place (``5 hundred thousand``). Knows no ordinals and no units.
"""

from __future__ import annotations

import re
from collections.abc import Container
from fractions import Fraction

_LARGEST_EXPONENT = 400
NUMBER = (
    r"(?:\d+\s+\d+/\d+|\d+/\d+"
    r"|(?:(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?)"
)
"""A pattern for a number in digits, without its sign."""

_SMALL = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
_SMALL += " fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
CARDINALS = {word: n for n, word in enumerate(_SMALL.split())}
CARDINALS |= {word: 20 + 10 * n for n, word in enumerate(_TENS.split())}
_SCALES = {"trillion": 10**12, "billion": 10**9, "million": 10**6, "thousand": 10**3}
MULTIPLIERS = {**_SCALES, "hundred": 10**2}

_PARTS = {"half": 2, "halves": 2, "quarter": 4, "quarters": 4}
_NTH = "third fourth fifth sixth seventh eighth ninth tenth"
_PARTS |= {word + s: n for n, word in enumerate(_NTH.split(), 3) for s in ("", "s")}

_CARDINAL, _MULTIPLIER, _PART = map("|".join, (CARDINALS, MULTIPLIERS, _PARTS))
_DIGIT = "|".join(_SMALL.split()[:10])
_BEFORE = r"(?<![\w'])(?<!\w-)"
_AFTER = r"(?![\w'-])"
_DIGITS = rf"(?<![.,/:^&]){NUMBER}"
_RUN = re.compile(
    rf"{_BEFORE}(?P<run>(?:(?:{_CARDINAL})[ -]|(?:{_MULTIPLIER})[ -](?:and[ -])?|{_DIGITS}[ -])*"
    rf"(?:{_CARDINAL}|{_MULTIPLIER}|{_DIGITS}))"
    rf"(?: point (?P<decimals>(?:{_DIGIT})(?:[ -](?:{_DIGIT}))*)|[ -](?P<part>{_PART}))?{_AFTER}",
    re.IGNORECASE,
)
_TOKEN = re.compile(rf"{NUMBER}|[a-z]+")
_OPENING = r"^([-+$€£¥ ]*)"
_BEGINS = re.compile(rf"{_OPENING}(?:\.?\d|(?:{_CARDINAL})\b)", re.IGNORECASE)
_OPENED = tuple(
    (re.compile(_OPENING + pattern, re.IGNORECASE), by)
    for pattern, by in (
        (rf"(?:negative|minus) (?=[$€£¥.]*\d|(?:{_CARDINAL}|an?)\b)", r"\1-"),
        (rf"an?[ -](?=(?:{_MULTIPLIER}|{_PART}){_AFTER})", r"\1one "),
        (rf"point (?=(?:{_DIGIT})\b)", r"\1zero point "),
    )
)
_AND_PART = re.compile(
    rf"(?P<before>\d|\b(?:{_CARDINAL}|{_MULTIPLIER})) and "
    rf"(?P<count>an?|{_CARDINAL})[ -](?P<part>{_PART}){_AFTER}",
    re.IGNORECASE,
)
_MIXED = re.compile(r"(?<![\d.,/])(\d+)&(?=\d)")
_ORDINAL = re.compile(r"[ -](?:first(?![a-z])|second$)", re.IGNORECASE)
_LAST_WORD = re.compile(r"([a-z]+)[.]? $|(,) ?$", re.IGNORECASE)


def in_digits(text: str, units: Container[str] = ()) -> str | None:
    """A text that begins with a number, its number words as digits; any other text as it is.

    ``None`` where number words make no number that can be told. ``units`` are words behind which
    ``one`` begins another number, and is no pronoun.

    >>> in_digits("two hundred and five dollars"), in_digits("twelve and a half")
    ('205 dollars', '12 1/2')
    >>> in_digits("twenty thirty"), in_digits("Friday the thirteenth")
    (None, 'Friday the thirteenth')
    """
    spelled = text
    for pattern, by in _OPENED:
        spelled = pattern.sub(by, spelled)
    if not (begin := _BEGINS.match(spelled)):
        return text
    spelled = _AND_PART.sub(_and_part, spelled)
    pieces: list[str] = []
    at = 0
    for match in _RUN.finditer(spelled):
        first = match.start() <= begin.end(1)
        written = _written(match) if first or not _is_pronoun(match, units) else match[0]
        if written is None:
            return None
        pieces += [spelled[at : match.start()], written]
        at = match.end()
    return _MIXED.sub(r"\1 ", "".join(pieces) + spelled[at:])


def number_value(number: str) -> Fraction | None:
    """Of :data:`NUMBER`: a decimal, a fraction, or a mixed number with a proper fraction."""
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


def _and_part(match: re.Match[str]) -> str:
    part = _fraction(match["count"].lower(), match["part"].lower())
    return f"{match['before']}&{part}" if part else match[0]


def _fraction(count: str, part: str) -> str | None:
    """A proper fraction: ``one third``, ``two thirds``, but not ``two third``."""
    numerator = 1 if count in ("a", "an") else CARDINALS.get(count, 0)
    plural = part.endswith("s")
    proper = 0 < numerator < _PARTS[part] and plural == (numerator > 1)
    return f"{numerator}/{_PARTS[part]}" if proper else None


def _is_pronoun(match: re.Match[str], units: Container[str]) -> bool:
    """Whether a ``one`` behind other words is none of a count: ``each one``, ``one of them``."""
    if match[0].lower() != "one":
        return False
    before = _LAST_WORD.search(match.string[: match.start()])
    word = (before[1] or ",").lower() if before else ""
    counts = word in (",", "and") or word in units or word.removesuffix("s") in units
    return not counts or not re.match(r" (?!of\b)[A-Za-z]", match.string[match.end() :])


def _written(match: re.Match[str]) -> str | None:
    """A run of number words in digits; ``None`` if it is no number."""
    tokens = _TOKEN.findall(match["run"].lower())
    rest = match.string[match.end() :]
    in_words = match["decimals"] or any(token.isalpha() for token in tokens)
    if not in_words or tokens[0] in MULTIPLIERS:
        return match[0]
    value = _cardinal(tokens)
    if value is None:
        return None
    if match["decimals"]:
        digits = (str(CARDINALS[word]) for word in _TOKEN.findall(match["decimals"].lower()))
        return f"{value}.{''.join(digits)}" if value.denominator == 1 else None
    if match["part"]:
        return _with_part(tokens, match["part"].lower(), rest) or (
            None if _is_quarter(tokens, match["part"]) else f"{value} {match['part']}"
        )
    open_end = CARDINALS.get(tokens[-1], 100) >= 20
    return None if open_end and _ORDINAL.match(rest) else str(value)


def _with_part(tokens: list[str], part: str, rest: str) -> str | None:
    """``one third`` of a thing, but not ``one third grader``."""
    if tokens == ["one"] and part not in ("half", "quarter") and rest:
        return _fraction("one", part) if rest.startswith((" of ", ",")) else None
    return _fraction(tokens[0], part) if len(tokens) == 1 else None


def _is_quarter(tokens: list[str], part: str) -> bool:
    """``five quarters`` may be coins or 5/4, ``fifty quarters`` are coins."""
    return part.lower().startswith("quarter") and CARDINALS.get(tokens[-1], 20) < 20 >= len(tokens)


def _cardinal(tokens: list[str]) -> Fraction | None:
    """The value of a well-formed number: ``two million five hundred thousand and six``."""
    if tokens == ["zero"]:
        return Fraction(0)
    value = Fraction(0)
    for name, scale in _SCALES.items():
        if name in tokens:
            at = tokens.index(name)
            group = _below_thousand(tokens[:at])
            if group is None or (value and group >= 1000):
                return None
            value += group * scale
            tokens = _behind(tokens, at)
    if not tokens:
        return value
    group = _below_thousand(tokens)
    return None if group is None or (value and not tokens[0].isalpha()) else value + group


def _behind(tokens: list[str], at: int) -> list[str]:
    return tokens[at + 2 :] if tokens[at + 1 : at + 2] == ["and"] else tokens[at + 1 :]


def _below_thousand(tokens: list[str]) -> Fraction | None:
    if "hundred" not in tokens:
        return _below_hundred(tokens)
    at = tokens.index("hundred")
    rest = _behind(tokens, at)
    hundreds = _below_hundred(tokens[:at])
    tail = _below_hundred(rest) if rest and rest[0] in CARDINALS else None
    if hundreds is None or (rest and tail is None):
        return None
    return hundreds * 100 + (tail or 0)


def _below_hundred(tokens: list[str]) -> Fraction | None:
    """``five``, ``twenty five``, or one number in digits, whatever its size."""
    if len(tokens) == 1 and tokens[0] not in CARDINALS:
        return number_value(tokens[0]) if tokens[0] not in MULTIPLIERS else None
    values = [CARDINALS.get(token, 0) for token in tokens]
    if len(values) == 2 and (values[0] < 20 or values[1] >= 10):
        return None
    return Fraction(sum(values)) if 0 < len(values) < 3 and all(values) else None
