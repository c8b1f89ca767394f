r"""Compares a boxed answer with the known one: by the rules that training has, too,
or the same text after tidying.

Meant for sweeps over problems with short answers. It does no algebra: ``x+1`` and ``1+x`` differ
here, and an evaluation that needs more brings a verifier of its own.
"""

from __future__ import annotations

import re

from extracot.answers import extract_answer, same_plain_answer
from extracot.quantities import plain_text

_DROPPED = re.compile(r"\\[!,;: ]|\\(?:left|right)(?![A-Za-z])|\s+")


def gold_answer(text: str) -> str:
    r"""The bare answer of a data set's answer field; GSM8K puts it after ``####``, others into
    ``\boxed{}``."""
    bare = text.rpartition("####")[2].strip()
    return extract_answer(bare) or bare


def same_answer(found: str | None, gold: str) -> bool:
    r"""Whether ``found`` says what ``gold`` says.

    >>> same_answer(r"\$1,200", "1200.0"), same_answer(r"\dfrac{1}{2}", "0.5")
    (True, True)
    """
    if found is None:
        return False
    same = same_plain_answer(found, gold)
    return same if same is not None else _tidy(found) == _tidy(gold)


def _tidy(text: str) -> str:
    text = _DROPPED.sub("", plain_text(text))
    return text.replace("dfrac", "frac").replace("tfrac", "frac")
