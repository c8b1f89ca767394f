"""Readers of JSONL problem files: GSM8K, MATH and MATH-500, AMC-style, and any with a field map."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from extracot_training.config.problems import AmcSource, Gsm8kSource, JsonlSource, MathSource
from extracot_training.errors import RowError, StageError
from extracot_training.pipeline.records import Problem
from extracot_training.stages.problems.sources.rows import (
    Origin,
    Row,
    gsm8k_parts,
    mapped,
    math_answer,
    problem,
)


def read_rows(path: Path) -> Iterator[Row]:
    """The objects of a JSONL file, blank lines skipped, a UTF-8 byte order mark tolerated.

    Raises :class:`RowError` with ``file:line`` for what is no JSON object, and
    :class:`StageError` for a file that can't be opened.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        raise StageError(f"{path}: {error.strerror}") from error
    with stream:
        for number, raw in enumerate(stream, start=1):
            line = raw.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else raw.strip()
            if not line:
                continue
            try:
                values = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise RowError(path, number, "not UTF-8 text") from error
            except (ValueError, RecursionError) as error:  # ValueError: thousands of digits, too
                raise RowError(path, number, f"not JSON ({error})") from error
            if not isinstance(values, dict):
                raise RowError(path, number, f"want an object, not {type(values).__name__}")
            yield Row(path, number, values)


def read_gsm8k(source: Gsm8kSource) -> Iterator[Problem]:
    """``question`` and ``answer``, the latter with worked steps and ``#### 72``."""
    origin = Origin("gsm8k", source.license, source.split)
    for row in read_rows(source.path):
        solution, answer = gsm8k_parts(row, "answer")
        yield problem(row, origin, row.text("question"), answer, solution=solution)


def read_math(source: MathSource) -> Iterator[Problem]:
    """``problem`` (or ``question``), ``solution``, ``answer`` or a box in the solution."""
    origin = Origin("math", source.license, source.split)
    for row in read_rows(source.path):
        yield problem(
            row, origin, row.first("problem", "question"), math_answer(row),
            solution=row.optional("solution"),
            family=row.optional("subject") or row.optional("type"),
            meta=row.some("subject", "type", "level", "unique_id"),
        )  # fmt: skip


def read_amc(source: AmcSource) -> Iterator[Problem]:
    """``problem`` or ``question`` with ``answer`` (often a float such as 27.0)."""
    origin = Origin("amc", source.license, source.split)
    for row in read_rows(source.path):
        question = row.first("problem", "question")
        yield problem(row, origin, question, row.gold("answer").answer, meta=row.some("url", "id"))


def read_mapped(source: JsonlSource) -> Iterator[Problem]:
    """Any JSONL file, by ``source.fields``."""
    origin = Origin(source.name, source.license, source.split)
    for row in read_rows(source.path):
        yield mapped(row, source.fields, origin)
