r"""The known answer of a problem, read from a field of somebody's data.

A field may hold the bare answer, a worked solution that ends in ``#### 72`` (GSM8K), in ``The
answer is: 72`` (MetaMath) or has a ``\boxed{72}`` (MATH). What can't be told is refused: a wrong
gold teaches wrongly, and nobody sees it. One reader for whoever asks and whoever trains.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal

from extracot.answers import boxes, same_answer, tidy
from extracot.quantities import LONGEST, plain_text
from extracot.think_tags import looks_tagged

LONGEST_NUMBER = 60
"""Digits; longer numbers are not compared as numbers."""

WANTED = "want the bare answer as a text or a number, such as 42"
_WANTED_OF_SOLUTION = (
    "want the bare answer, or a solution with it in one \\boxed{} or behind '####' on its last line"
)
# What programs and people write where there is no answer, whatever its capitals: NaN of pandas,
# errors of spreadsheets, a dash. Words that are answers, too, are left: none, infinity, undefined.
_PLACEHOLDER = re.compile(
    r"[-+]?nan|[<(\[]?null[>)\]]?|<(?:na|none|unknown|missing)>|#?n/a|#na|n\.\s?a\.?"
    r"|#[a-z/_]+0?[!?]|#getting_data|err:\d{3}|[?？]+|[-–—−]+|…|_+"
    r"|tb[ad]|todo|to be (?:determined|announced)|unknown|not (?:available|applicable)|[-+]?inf",
    re.IGNORECASE,
)
_AS_PROGRAMS_WRITE = ("None", "NA", "NaT", "\\N")  # Python, R, pandas, dumps of databases
_PYTHON_LIST = re.compile(r"[\[({]\s*(['\"]).*[\])}]", re.DOTALL)
_MARK = re.compile(r"(?<!#)####(?!#)[ \t]*")
_LABEL = re.compile(r"\**(?:the )?(?:final )?answer\b\**(?: is\b)?[ \t]*[:=]?[ \t]*", re.IGNORECASE)
_STATED = re.compile(
    r"(?P<before>.*[.!?,:;] )?(?:(?:so|thus|hence|therefore),? )?\**"
    r"(?:the (?:final )?answer is\b:?|(?:the )?(?:final )?answer\** ?:)\** *(?P<answer>.+)",
    re.IGNORECASE,
)
_HEADING = re.compile(
    r"(?:step|part|case|solution|explanation|reasoning|conclusion|note|method|approach)\b.*", re.I
)
_GROUPED = re.compile(r"\$?-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_NEXT_SENTENCE = re.compile(r"[.!?]\s+\S")
# A capital behind a full stop that is of no abbreviation.
_NEW_SENTENCE = re.compile(
    r"(?<!\b[A-Za-z])(?<!\b[A-Z][a-z])(?<!\b(?:Mrs|Rev|Gen|Col|Vol))(?<!\bProf)[.!?]\s+[A-Z]"
)
_ENDS_IN_NUMBER = re.compile(r"\d[%)*\s.!?]*$")
# Bare answers in words are no longer than this; a longer text of several sentences is a solution.
_LONGEST_PHRASE = 60


class GoldError(ValueError):
    """A field holds no answer that could be compared; the message says why and what is wanted."""


@dataclass(frozen=True, slots=True)
class Gold:
    """``answer`` is bare; ``solution`` is the worked text it was taken from (``""``: none)."""

    answer: str
    solution: str = ""


def read_gold(value: object) -> Gold:
    r"""The answer that a field of a data set holds; raises :class:`GoldError`.

    Thousands separators and a dollar sign go from what stands behind ``####``.

    >>> read_gold("48/2 = 24\n#### 1,200"), read_gold("#### (1,2)").answer, read_gold(27.0).answer
    (Gold(answer='1200', solution='48/2 = 24'), '(1,2)', '27')
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise GoldError(f"is {told(value)}; {WANTED}")
    if not isinstance(value, str):
        return Gold(_number(value))
    text = value.strip("\ufeff \t\r\n")
    if not text:
        raise GoldError(f"holds no answer; {WANTED}")
    gold = _marked(text) or _boxed(text) or _stated(text) or Gold(_bare(text))
    return Gold(_checked(gold.answer), gold.solution)


def _marked(text: str) -> Gold | None:
    """What follows the last ``####``, unless that heads a paragraph."""
    marks = list(_MARK.finditer(text))
    if not marks:
        return None
    solution = text[: marks[-1].start()].strip()
    first, _, rest = text[marks[-1].end() :].partition("\n")
    answer, rest = _unlabelled(first), rest.strip()
    if not answer and rest and "\n" not in rest:
        answer, rest = _unlabelled(rest), ""  # "#### Answer" and the answer on a line of its own
    if not answer and not rest:
        raise GoldError(f"has nothing behind '####'; {WANTED}")
    if _HEADING.fullmatch(answer):
        return None
    if rest:
        repeated = _STATED.fullmatch(rest)
        if repeated is None:
            return None
        again = _ended(repeated["answer"])
        if not same_answer(again, answer):
            raise GoldError(f"has two answers, {answer[:40]!r} behind '####' and {again[:40]!r}")
    in_box = _boxed(answer)
    if in_box:
        return Gold(in_box.answer, solution)
    if _GROUPED.fullmatch(answer):
        answer = answer.replace(",", "")
    return Gold(answer.removeprefix("$") if answer.count("$") == 1 else answer, solution)


def _boxed(text: str) -> Gold | None:
    r"""The one answer of all ``\boxed{}``."""
    found = boxes(text)
    if not found:
        if "\\boxed" in text:
            raise GoldError(f"has a \\boxed{{}} with nothing in it or no end; {WANTED}")
        return None
    others = [box for box in found if not same_answer(box, found[-1])]
    if others:
        raise GoldError(
            f"has boxes with different answers, {others[0][:40]!r} and {found[-1][:40]!r}; "
            "want one answer"
        )
    whole = re.fullmatch(r"[\s$.]*\\+boxed\s*\{.*\}[\s$.]*", text, re.DOTALL)
    return Gold(found[-1], "" if whole and len(found) == 1 else text)


def _stated(text: str) -> Gold | None:
    """``The answer is: 42`` or ``Answer: 42`` at the end of the last line."""
    solution, _, last = text.rpartition("\n")
    found = _STATED.fullmatch(last.strip())
    if found is None:
        return None
    whole = text if found["before"] else ""
    return Gold(_ended(found["answer"]), (solution or whole).strip())


def closing(text: str) -> Gold | None:
    """The answer that a worked text ends in behind ``####`` or ``The answer is``, and the text
    without that; ``None`` where it ends in none that can be told.

    >>> closing("5 + 2 = 7\\n#### 7"), closing("It is 7."), closing("Add. The answer is 7.").answer
    (Gold(answer='7', solution='5 + 2 = 7'), None, '7')
    """
    text = text.strip()
    try:
        gold = _marked(text) or _stated(text)
        return gold and Gold(_checked(gold.answer.strip("* ")), gold.solution)
    except GoldError:
        return None


def _bare(text: str) -> str:
    lines = "\n" in text and "\\begin" not in text
    long = len(text) > LONGEST or (len(text) > _LONGEST_PHRASE and _NEXT_SENTENCE.search(text))
    if lines or long:
        raise GoldError(f"is a text without an answer that can be told; {_WANTED_OF_SOLUTION}")
    return text


def _checked(answer: str) -> str:
    if len(answer) > LONGEST:
        raise GoldError(f"is an answer of {len(answer)} characters; {WANTED}")
    if looks_tagged(answer):
        raise GoldError(f"has think tags in its answer; {_WANTED_OF_SOLUTION}")
    if ("=" in answer and _NEXT_SENTENCE.search(answer)) or (
        _ENDS_IN_NUMBER.search(answer) and _NEW_SENTENCE.search(answer)
    ):
        raise GoldError(f"is several sentences, {answer[:40]!r}; {_WANTED_OF_SOLUTION}")
    if not tidy(answer):
        raise GoldError(f"holds no answer; {WANTED}")
    _refuse_placeholder(answer)
    if _PYTHON_LIST.fullmatch(answer):
        raise GoldError(f"is {answer[:40]!r}; {WANTED}")
    digits = max(map(len, re.findall(r"\d+", answer)), default=0)
    if digits > LONGEST_NUMBER:
        raise GoldError(f"is a number of {digits} digits; {WANTED}")
    return answer


def _refuse_placeholder(answer: str) -> None:
    """Refuse what stands for a missing answer, as it is or in ``\\text{}``. ``None`` and ``NA`` are
    placeholders as Python and R write them; ``none`` and ``Na`` are answers."""
    if answer in _AS_PROGRAMS_WRITE or any(
        _PLACEHOLDER.fullmatch(text) for text in (answer, plain_text(answer))
    ):
        hint = "; write none where that is the answer" if answer == "None" else ""
        raise GoldError(f"is {answer[:40]!r}, a placeholder and no answer; {WANTED}{hint}")


def _unlabelled(line: str) -> str:
    line = line.strip()
    label = _LABEL.match(line)
    return line[label.end() :].strip(" *") if label else line


def _ended(text: str) -> str:
    return text.strip().removesuffix(".").strip(" *").removesuffix(".")


def _number(value: float) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        raise GoldError(f"is {told(value)}; {WANTED}")
    text = f"{Decimal(repr(value)):f}" if isinstance(value, float) else str(value)
    text = text.rstrip("0").removesuffix(".") if "." in text else text
    if len(text) > LONGEST_NUMBER:
        raise GoldError(f"is a number of {len(text)} digits; {WANTED}")
    return text


def told(value: object) -> str:
    """What a value is, in JSON's words."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case list():
            return "a list"
        case dict():
            return "an object"
        case float() if not math.isfinite(value):
            return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
        case float() | int() | str():
            return str(value)
    return f"of type {type(value).__name__}"
