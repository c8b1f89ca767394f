"""From a loose row (any mapping) to a :class:`Problem`, with errors that name the field."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extracot.answers import extract_answer
from extracot.golds import Gold, GoldError, read_gold, told
from extracot_training.config.problems import FieldMap
from extracot_training.errors import RowError
from extracot_training.math_text.normalise import clean, problem_id
from extracot_training.pipeline.data_files import ABSENT, Bad, read_values, refuse, value_at
from extracot_training.pipeline.records import Problem, Split

# GSM8K writes its calculator calls into the text: "50*48 = $<<50*48=2400>>2,400".
_CALCULATOR = re.compile(r"<<[^<>=\n]*=\s*([^<>=\n]*?)\s*>>(?=[ $]*([^\s<]*))")


@dataclass(frozen=True, slots=True)
class Row:
    """One row and where it came from. ``path`` may name a data set; ``line`` counts from 1."""

    path: Path
    line: int
    values: Mapping[str, Any]

    def text(self, field: str) -> str:
        """The field as cleaned text (numbers as written). :class:`RowError` if absent or empty."""
        value = self._value(field)
        if isinstance(value, bool) or not isinstance(value, str | int | float) or _no_number(value):
            raise RowError(
                self.path, self.line, f"want text or a number, not {told(value)}", field=field
            )
        text = clean(value if isinstance(value, str) else plain_number(value))
        if not text:
            raise RowError(self.path, self.line, "is empty", field=field)
        if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
            raise RowError(self.path, self.line, "holds half a character", field=field)
        return text

    def gold(self, field: str) -> Gold:
        """The field's answer, and the solution it stands in. :class:`RowError` if it has none."""
        value = self._value(field)
        try:
            return read_gold(self.text(field) if isinstance(value, str) else value)
        except GoldError as error:
            raise RowError(self.path, self.line, str(error), field=field) from None

    def first(self, *fields: str) -> str:
        """The first of ``fields`` the row has."""
        return self.text(next((field for field in fields if field in self.values), fields[0]))

    def some(self, *fields: str) -> dict[str, Any]:
        """Those of ``fields`` that hold a text, a number or a truth value."""
        found = {field: self.values.get(field) for field in fields}
        return {
            field: self.text(field) if isinstance(value, str) else value
            for field, value in found.items()
            if isinstance(value, str | int | float) and value != "" and not _no_number(value)
        }

    def optional(self, field: str | None) -> str | None:
        """The field's text, ``None`` where it is not named, absent, null, NaN or blank."""
        value = None if field is None else self.find(field)
        if field is None or value is None or value is ABSENT or _no_number(value):
            return None
        return None if isinstance(value, str) and not clean(value) else self.text(field)

    def _value(self, field: str) -> Any:
        value = self.find(field)
        if value is ABSENT:
            raise self.missing(field)
        return value

    def missing(self, field: str, where: str = "") -> RowError:
        """The error of a row without that field."""
        there = ", ".join(map(str, self.values)) or "none"
        message = f"is missing{where}; the row has: {there[:200]}"
        return RowError(self.path, self.line, message, field=field)

    def find(self, field: str) -> Any:
        """:func:`value_at` of the row."""
        return value_at(self.values, field)


@dataclass(frozen=True, slots=True)
class Origin:
    """What all rows of one source share."""

    source: str
    license: str
    split: Split | None


def read_rows(path: Path, bad: Bad = refuse) -> Iterator[Row]:
    """The rows of a file. Raises as :func:`read_values` does."""
    for line, values in read_values(path, bad):
        yield Row(path, line, values)


def _no_number(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def plain_number(value: int | float) -> str:
    """``25.0`` -> ``25``, ``2.5`` -> ``2.5``."""
    return str(int(value)) if isinstance(value, int) or value.is_integer() else repr(value)


def _uncalculated(solution: str) -> str:
    """The solution without calculator calls: those with their own result behind them, which tells
    them from shifted bits (``5 << 2 = 20, and 20 >> 1 = 10``)."""

    def without(call: re.Match[str]) -> str:
        result, behind = (text.replace(",", "") for text in call.groups())
        return "" if result and behind.startswith(result) else call[0]

    return _CALCULATOR.sub(without, solution).strip()


def gsm8k_parts(row: Row, field: str) -> tuple[str, str]:
    """A GSM8K answer field as (worked solution, final answer without thousands separators).

    Raises :class:`RowError` when there is no ``#### number`` at its end.
    """
    if "####" not in row.text(field):
        raise RowError(row.path, row.line, "no '#### ANSWER' at the end", field=field)
    gold = row.gold(field)
    return _uncalculated(gold.solution), gold.answer


def math_answer(row: Row) -> str:
    """MATH's gold: the ``answer`` field, else the last box of ``solution``, as this data means."""
    if row.optional("answer") is not None:
        return row.gold("answer").answer
    answer = extract_answer(row.text("solution"))
    if not answer:
        message = "no \\boxed{} in it, and the row has no 'answer'"
        raise RowError(row.path, row.line, message, field="solution")
    return answer


def mapped(row: Row, fields: FieldMap, origin: Origin) -> Problem:
    """A row read by a field map. A gold that stands in a worked solution is taken out of it."""
    gold = row.gold(fields.answer)
    solution = row.optional(fields.solution) or gold.solution
    return problem(
        row,
        origin,
        row.text(fields.question),
        gold.answer,
        solution=_uncalculated(solution),
        family=row.optional(fields.family),
    )


def problem(
    row: Row,
    origin: Origin,
    question: str,
    answer: str,
    *,
    solution: str | None = None,
    family: str | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Problem:
    """The row as a :class:`Problem`; where it was is kept in ``meta``."""
    return Problem(
        id=problem_id(origin.source, question),
        question=question,
        answer=answer,
        solution=solution or None,
        source=origin.source,
        license=origin.license,
        split=origin.split or "train",
        family=family,
        meta={"row": row.line, **(meta or {})},
    )
