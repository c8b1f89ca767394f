"""Whether an answer equals the gold: by mathematics (math-verify), and by strict comparison.

Total: nothing a model writes makes it raise or hang. Works on any thread: math-verify's own timeout
needs signals and the main thread, so it is off. Instead, text that would make sympy hang (power
towers, huge factorials, integrals, pages of text) is told by its looks, and a comparison that is
still not done after :data:`PATIENCE` seconds counts as "not equal".

Two columns, as reports want them: ``correct`` and ``strict`` (boxed and equal as text).
"""

from __future__ import annotations

import logging
import math
import re
import threading
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

from extracot.answers import extract_answer

PATIENCE = 5.0
LONGEST_ANSWER = 400
LONGEST_NUMBER = 60
# Numbers raised to powers beyond this take long to write out.
LARGEST_EXPONENT = 10_000
_TOWER = re.compile(r"(?:\^|\*\*)[\s{(]*-?\d+[\s})]*(?:\^|\*\*|!)")
_EXPONENT = re.compile(r"[\d)}\]]\s*(?:\^|\*\*)[\s{(]*-?(\d+)")
_COMPUTED_EXPONENT = re.compile(
    r"[\d)}\]]\s*(?:\^|\*\*)\s*[{(][^{}()]*\d\s*(?:[*^!]|\\cdot|\\times)"
)
_HUGE = re.compile(r"\d{4,}\s*!|[)}\]!]\s*!|binom.*\d{4,}|\\(?:int|sum|prod|lim)(?![a-z])")
_SPACES = re.compile(r"\\[ ,;:!]|\\(?:quad|qquad|left|right)(?![a-zA-Z])|\s+|~")
_PLAIN_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
# A number in a base that a subscript names, as figures or as an English word.
_IN_BASE = re.compile(
    r"(?:[a-z]+=)?(-?)([0-9a-z,]+)(?:\.([0-9a-z]+))?"
    r"_\{?\(?(?:\\(?:text|mathrm|textbf)\{)?([0-9]{1,2}|[a-z]+)[})]*"
)
_BASES = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]
_BASES += ["twelve", "thirteen", "fourteen", "fifteen", "sixteen"]
_WRAPPERS = (("\\text{", "}"), ("\\mathrm{", "}"), ("\\textbf{", "}"), ("$", "$"), ("{", "}"))


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """``answer`` is the boxed text found (``None``: no box). ``correct`` compares by mathematics,
    ``strict`` by text after removing spacing. Without a box both are false."""

    answer: str | None
    correct: bool
    strict: bool


def verify(text: str, gold: str) -> VerifyResult:
    """Judge the last balanced ``\\boxed{}`` of ``text`` against ``gold`` (bare or boxed)."""
    answer = extract_answer(text)
    if answer is None:
        return VerifyResult(None, correct=False, strict=False)
    gold = extract_answer(gold) or gold
    strict = bool(tidy(gold)) and tidy(answer) == tidy(gold)
    return VerifyResult(answer, correct=strict or equal(answer, gold), strict=strict)


def equal(answer: str, gold: str) -> bool:
    """Whether two bare answers are the same mathematics: ``1/2``, ``\\frac12`` and ``0.5`` are."""
    if not tidy(answer) or not tidy(gold):
        return False
    if tidy(answer) == tidy(gold):
        return True
    for read in (_number, _in_base):  # math-verify 0.9 rounds, and drops bases
        left, right = read(answer), read(gold)
        if left is not None and right is not None:
            return left == right
    if _hopeless(answer) or _hopeless(gold):
        return False
    return _math_equal(answer, gold)


def tidy(answer: str) -> str:
    """The answer without spacing, dollar signs and ``\\text{}`` around it, or a final full stop."""
    text = _SPACES.sub("", answer).replace("\\$", "").replace("\\%", "%").rstrip(".")
    text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    changed = len(text) <= LONGEST_ANSWER
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


def _number(answer: str) -> tuple[str, str] | None:
    """A plain decimal as (sign and digits, decimals), exact at any size; ``None`` otherwise."""
    text = tidy(answer).replace("{,}", ",").removeprefix("$")
    if not _PLAIN_NUMBER.fullmatch(text):
        return None
    sign = "-" if text.startswith("-") else ""
    whole, _, decimals = text.lstrip("+-").replace(",", "").partition(".")
    whole, decimals = whole.lstrip("0") or "0", decimals.rstrip("0")
    zero = whole == "0" and not decimals
    return ("" if zero else sign) + whole, decimals


def _in_base(answer: str) -> tuple[str, str, int] | None:
    """``-2A.8_{12}`` as (sign and digits, decimals, base), however the base is written."""
    if not (found := _IN_BASE.fullmatch(tidy(answer).lower())):
        return None
    sign, whole, decimals, name = found[1], found[2].replace(",", ""), found[3] or "", found[4]
    base = int(name) if name.isdigit() else _BASES.index(name) + 2 if name in _BASES else 0
    valid = all(int(digit, 36) < base for digit in whole + decimals)
    return (sign + whole.lstrip("0"), decimals.rstrip("0"), base) if valid else None


def _hopeless(answer: str) -> bool:
    """Whether evaluating this could take for ever; plain looks decide, in linear time."""
    if len(answer) > LONGEST_ANSWER or re.search(rf"\d{{{LONGEST_NUMBER},}}", answer):
        return True
    if any(pattern.search(answer) for pattern in (_TOWER, _COMPUTED_EXPONENT, _HUGE)):
        return True
    exponents = (int(digits) for digits in _EXPONENT.findall(answer))
    return math.prod(max(1, exponent) for exponent in exponents) > LARGEST_EXPONENT


@lru_cache(maxsize=4096)
def _math_equal(answer: str, gold: str) -> bool:
    import math_verify

    found: list[bool] = []
    worker = threading.Thread(
        target=lambda: found.append(_compare(math_verify, answer, gold)), name="verify", daemon=True
    )
    worker.start()
    worker.join(PATIENCE)
    # A thread can't be stopped; it ends by itself or with the process, and its result is unused.
    return bool(found) and found[0]


def _compare(math_verify: Any, answer: str, gold: str) -> bool:
    # Its log tells of every answer it can't parse; here that is an ordinary outcome.
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    try:
        parsed = [
            math_verify.parse(f"\\boxed{{{text}}}", parsing_timeout=None) for text in (gold, answer)
        ]
        return all(parsed) and bool(math_verify.verify(*parsed, timeout_seconds=None))
    except Exception:  # sympy raises nearly every kind on what models write: that is "not equal"
        return False
