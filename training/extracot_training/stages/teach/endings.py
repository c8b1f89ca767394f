"""What a worked solution ends in, beside the gold: its box, ``#### 7`` or ``The answer is 7``."""

from __future__ import annotations

import re

from extracot.answers import extract_answer
from extracot.golds import closing
from extracot.quantities import Quantity, Words, plain_text, read_plain
from extracot.units import units_differ
from extracot_training.math_text.verify import equal, verify

_LAST_MARK = re.compile(r"(?:^|\n)[ \t]*####(?!#)[^\n]*\Z")
_VERDICTS = ("yes", "no")


def disagrees(text: str, gold: str) -> bool:
    """A text that ends in another answer. Without a box only numbers, letters of a choice, yes and
    no are compared: other words may say the gold in their own way.

    >>> disagrees("2 + 4 = 6. The answer is 6 apples.", "7"), disagrees("It is so.\\n#### 7", "7")
    (True, False)
    """
    if extract_answer(text):
        return not verify(text, gold).correct
    end = closing(text)
    return end is not None and _alike(end.answer, gold) and not equal(end.answer, gold)


def without_mark(text: str, gold: str) -> str:
    """The text without a last line ``#### 7`` that holds the gold."""
    end = closing(text)
    if _LAST_MARK.search(text.rstrip()) is None or end is None or not equal(end.answer, gold):
        return text
    return end.solution


def _alike(answer: str, gold: str) -> bool:
    """Whether two answers are of a kind, so that they can be told to differ."""
    match read_plain(plain_text(answer)), read_plain(plain_text(gold)):
        case (Quantity() as one,), (Quantity() as other,):
            # "One that we have found" is no number.
            bare = " " not in answer or re.match(r"[-$\\.\d]", answer) is not None
            return bare and not units_differ(one.unit, other.unit)
        case Words(words=(one_word,)), Words(words=(other_word,)):
            pair = one_word.lower(), other_word.lower()
            letters = all(len(word) == 1 for word in pair)
            return letters or all(word in _VERDICTS for word in pair)
    return False
