"""Why wrong replies are wrong, as far as their own working tells. Pure.

What to train next is another thing for a model that miscalculates than for one that takes the wrong
numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from extracot_training.compression.segment import FORMULAS, segment
from extracot_training.evaluation.rows import EvalRow
from extracot_training.math_text.equations import read_equation


class Cause(StrEnum):
    """The first of these that a wrong reply shows.

    ``CUT_OFF``: its reasoning did not end, or its tokens did; ``NO_ANSWER``: nothing is boxed;
    ``MISCALCULATED``: it writes a calculation that does not hold, noticed later or not; ``OTHER``:
    all that could be judged holds, so a number, a step or a choice is wrong.
    """

    CUT_OFF = "cut_off"
    NO_ANSWER = "no_answer"
    MISCALCULATED = "miscalculated"
    OTHER = "other"


def calculations(text: str) -> tuple[int, int]:
    """How many calculations ``text`` writes out, and how many of them do not hold.

    Only whole, plain arithmetic is judged; ``x = 5`` and the like are not counted.
    """
    formulas = (atom.body for atom in segment(text) if atom.kind in FORMULAS)
    read = [equation.correct for body in formulas if (equation := read_equation(body))]
    return sum(correct is not None for correct in read), read.count(False)


def cause(row: EvalRow) -> Cause | None:
    """Why this reply is wrong; ``None`` if it is right, or was refused."""
    if row.correct or row.refused is not None:
        return None
    if row.unclosed or row.finish_reason == "length":
        return Cause.CUT_OFF
    if row.boxed is None:
        return Cause.NO_ANSWER
    return Cause.MISCALCULATED if row.miscalculated else Cause.OTHER


def causes_of(rows: Sequence[EvalRow]) -> dict[str, Any]:
    """``wrong`` replies, how many of them by ``cause``; ``calculations`` judged in all replies and
    the ``share`` of them that holds (``None``: none were judged)."""
    found = Counter(why for row in rows if (why := cause(row)) is not None)
    judged = sum(row.calculations for row in rows)
    failed = sum(row.miscalculated for row in rows)
    return {
        "wrong": found.total(),
        "causes": {why.value: found[why] for why in Cause},
        "calculations": judged,
        "share": 1 - failed / judged if judged else None,
    }
