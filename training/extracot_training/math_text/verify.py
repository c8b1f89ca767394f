"""Whether an answer equals the gold: by mathematics, and by strict comparison.

Plain answers (numbers, units, words) are :mod:`extracot.answers`' to judge, since math-verify 0.9.0
rounds, drops bases, and reads words as products of letters; math-verify judges the rest.

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
from importlib.metadata import version
from typing import Any

from extracot.answers import GRADER, extract_answer, same_plain_answer, tidy
from extracot.notation import in_one_notation

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


def grader() -> str:
    """What judges, for reports: our own rules and the installed math-verify."""
    return f"{GRADER}, math-verify {version('math-verify')}"


def equal(answer: str, gold: str) -> bool:
    """Whether two bare answers are the same mathematics: ``1/2``, ``\\frac12`` and ``0.5`` are."""
    if not tidy(answer) or not tidy(gold):
        return False
    if tidy(answer) == tidy(gold):
        return True
    plain = same_plain_answer(answer, gold)
    if plain is not None:
        return plain
    answer, gold = in_one_notation(answer, gold)
    if tidy(answer) == tidy(gold):
        return True
    if _hopeless(answer) or _hopeless(gold):
        return False
    return _math_equal(answer, gold)


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
