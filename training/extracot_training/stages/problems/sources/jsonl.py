"""Problem files: GSM8K, MATH and MATH-500, AMC-style, and any with a field map.

Each function gives what makes a problem of a row of its source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from extracot.answers import same_answer
from extracot_training.config.problems import (
    AmcSource,
    FileSource,
    Gsm8kSource,
    JsonlSource,
    MathSource,
)
from extracot_training.pipeline.data_files import Bad
from extracot_training.pipeline.records import Problem
from extracot_training.stages.problems.sources.retelling import retold
from extracot_training.stages.problems.sources.rows import (
    Origin,
    Row,
    gsm8k_parts,
    mapped,
    math_answer,
    problem,
    read_rows,
)

Make = Callable[[Row], Problem]


def rows(source: FileSource, bad: Bad) -> Iterator[Row]:
    """The rows of the source's file."""
    return read_rows(source.path, bad)


def gsm8k(source: Gsm8kSource) -> Make:
    """``question`` and ``answer``, the latter with worked steps and ``#### 72``. ``meta.retold`` is
    on the rows whose solution could be told again."""
    origin = Origin("gsm8k", source.license, source.split)

    def make(row: Row) -> Problem:
        solution, answer = gsm8k_parts(row, "answer")
        question = row.text("question")
        if source.solutions == "given":
            return problem(row, origin, question, answer, solution=solution)
        again = retold(row.text("answer").rpartition("####")[0], two_digits=source.two_digits)
        if again is None:
            return problem(row, origin, question, answer, solution=solution)
        # A calculation that the data has not marked is missing from those alone.
        whole = same_answer(again.last, answer)
        told = again.bare if source.solutions == "calculations" and whole else again.full
        meta = {"retold": True} | ({"terse": again.bare} if whole else {})
        return problem(row, origin, question, answer, solution=told, meta=meta)

    return make


def math(source: MathSource) -> Make:
    """``problem`` (or ``question``), ``solution``, ``answer`` or a box in the solution."""
    origin = Origin("math", source.license, source.split)

    def make(row: Row) -> Problem:
        return problem(
            row, origin, row.first("problem", "question"), math_answer(row),
            solution=row.optional("solution"),
            family=row.optional("subject") or row.optional("type"),
            meta=row.some("subject", "type", "level", "unique_id"),
        )  # fmt: skip

    return make


def amc(source: AmcSource) -> Make:
    """``problem`` or ``question`` with ``answer`` (often a float such as 27.0)."""
    origin = Origin("amc", source.license, source.split)

    def make(row: Row) -> Problem:
        question = row.first("problem", "question")
        return problem(row, origin, question, row.gold("answer").answer, meta=row.some("url", "id"))

    return make


def by_fields(source: JsonlSource) -> Make:
    """Any row, by ``source.fields``."""
    origin = Origin(source.name, source.license, source.split)
    return lambda row: mapped(row, source.fields, origin)
