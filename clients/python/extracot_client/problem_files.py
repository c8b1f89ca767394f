"""Problems for a sweep, from JSONL or CSV, checked before anything is asked.

A known answer that could never match a reply (a list, ``true``, an empty text, a column called
`` answer``) is an error that names the line and the column, and says what is wanted.
"""

from __future__ import annotations

import csv
import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

from extracot.answers import same_answer
from extracot.golds import GoldError, read_gold, told
from extracot_client.errors import InvalidArgumentError
from extracot_client.sweeps import SweepProblem, as_problem

QUESTION_FIELDS = ("question", "problem", "prompt")
ANSWER_FIELDS = ("answer", "gold", "final_answer", "final")
SOLUTION_FIELD = "solution"
"""Read for its answer where a row has none of :data:`ANSWER_FIELDS`, as MATH's rows."""
ID_FIELDS = ("id", "problem_id")
FIELDS = (QUESTION_FIELDS, (*ANSWER_FIELDS, SOLUTION_FIELD), ID_FIELDS)


class SweepFileError(InvalidArgumentError):
    """A file of a sweep cannot be used as it is; the message names file and line."""


def read_problems(stream: TextIO, name: str, *, as_csv: bool) -> list[SweepProblem]:
    """Problems, one a line: an object or columns with ``question`` (or ``problem``, ``prompt``)
    and perhaps ``answer`` (or ``gold``, ``final_answer``, ``final``, else ``solution``) and ``id``;
    a JSONL line may also be a bare string. Other fields are not read. Raises
    :class:`SweepFileError`."""
    rows = _csv_rows(stream, name) if as_csv else _jsonl_rows(stream, name)
    problems: list[SweepProblem] = []
    seen: dict[str, str] = {}
    for where, row in rows:
        problem = _problem(row, where, "column" if as_csv else "field", as_csv=as_csv)
        if problem.id in seen:
            same = problem.id == as_problem(problem.question).id
            told = "the same question" if same else f"the id {problem.id!r}"
            hint = "; give each an id of its own" if same else ""
            raise SweepFileError(f"{where}: {told} was already in {seen[problem.id]}{hint}")
        seen[problem.id] = where
        problems.append(problem)
    if not problems:
        raise SweepFileError(f"{name}: holds no problem")
    return problems


def _lines(stream: TextIO, name: str) -> Iterator[str]:
    try:
        for number, line in enumerate(stream):
            yield line if number else line.removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise SweepFileError(f"{name}: not UTF-8: {error.reason}") from None


def _jsonl_rows(stream: TextIO, name: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(_lines(stream, name), start=1):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        try:
            row = json.loads(line, object_pairs_hook=_object(where))
            json.dumps(row, ensure_ascii=False).encode("utf-8")
        except SweepFileError:
            raise
        except UnicodeEncodeError:
            told = "holds half a character (a lone surrogate)"
            raise SweepFileError(f"{where}: {told}") from None
        except (ValueError, RecursionError):
            raise SweepFileError(f"{where}: not JSON; want one object a line") from None
        yield where, row


def _object(where: str) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    def made(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise SweepFileError(f"{where}: field {twice!r} is there twice")
        return dict(pairs)

    return made


def _csv_rows(stream: TextIO, name: str) -> Iterator[tuple[str, Any]]:
    reader = csv.DictReader(_lines(stream, name), strict=True)
    try:
        columns = list(reader.fieldnames or ())
        if twice := next((c for c in columns if c.strip() and columns.count(c) > 1), None):
            raise SweepFileError(f"{name}:1: column {twice!r} is there twice")
        for row in reader:
            where = f"{name}:{reader.line_num}"
            if None in row:
                raise SweepFileError(
                    f"{where}: more cells than the {len(columns)} columns of the header; "
                    "a text with commas wants double quotes around it"
                )
            if None in row.values():
                missing = next(column for column, cell in row.items() if cell is None)
                raise SweepFileError(f"{where}: no cell for column {missing!r}")
            yield where, row
    except csv.Error as error:
        raise SweepFileError(f"{name}:{reader.line_num}: not CSV: {error}") from None


def _problem(row: Any, where: str, part: str, *, as_csv: bool) -> SweepProblem:
    if isinstance(row, str):
        return as_problem(_question(row, where))
    if not isinstance(row, Mapping):
        raise SweepFileError(f"{where}: a problem is an object or a string, one a line")
    _check_names(row, where, part)
    question = next(
        (row[name] for name in QUESTION_FIELDS if row.get(name) not in (None, "")), None
    )
    if question is None:
        raise SweepFileError(f"{where}: no {part} {' or '.join(QUESTION_FIELDS)}")
    bare = as_problem(_question(question, where))
    # An empty cell is CSV's only way to say that there is none; in JSON one leaves the field out.
    given = [name for name in ANSWER_FIELDS if name in row and not (as_csv and row[name] == "")]
    if not given and row.get(SOLUTION_FIELD) not in (None, ""):
        given = [SOLUTION_FIELD]
    golds = [(name, _gold(row[name], f"{where}: {part} {name!r}")) for name in given]
    for name, gold in golds[1:]:
        if not same_answer(gold, golds[0][1]):
            raise SweepFileError(
                f"{where}: {part} {golds[0][0]!r} and {part} {name!r} are different answers; "
                "want one of them"
            )
    return SweepProblem(
        id=_id(row, where, part) or bare.id,
        question=bare.question,
        answer=golds[0][1] if golds else None,
    )


def _check_names(row: Mapping[str, Any], where: str, part: str) -> None:
    """Refuse a name that is nearly one of ours, where ours is missing: `` answer``, ``Answer``."""
    ours = {name for names in FIELDS for name in names}
    for names in FIELDS:
        if any(name in row for name in names):
            continue
        for other in row:
            bare = re.sub(r"[\W_]+", "_", other.strip("\ufeff \t'\"")).casefold()
            close = difflib.get_close_matches(bare, names, n=1, cutoff=0.8)
            if names is ID_FIELDS and bare not in names:
                close = []  # short words are alike by chance
            if other not in ours and close:
                raise SweepFileError(
                    f"{where}: unknown {part} {other!r} (did you mean {close[0]!r}?)"
                )


def _question(text: object, where: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise SweepFileError(f"{where}: the question is empty or no text")
    return text


def _id(row: Mapping[str, Any], where: str, part: str) -> str | None:
    name = next((name for name in ID_FIELDS if row.get(name) not in (None, "")), None)
    if name is None:
        return None
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise SweepFileError(
            f"{where}: {part} {name!r} is {told(value)}; want a text or a whole number"
        )
    return str(value)


def _gold(value: Any, where: str) -> str:
    """The bare answer, or an error that says why this is none."""
    try:
        return read_gold(value).answer
    except GoldError as error:
        none = value is None or (isinstance(value, str) and not value.strip())
        hint = "; leave it out if there is none" if none else ""
        if where.endswith(repr(SOLUTION_FIELD)):
            hint += f", or the field {ANSWER_FIELDS[0]!r}"
        raise SweepFileError(f"{where} {error}{hint}") from None
