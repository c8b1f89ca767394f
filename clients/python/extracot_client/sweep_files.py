"""The files of a sweep: problems in (JSONL or CSV), rows kept (JSONL, resumable), rows out (CSV).

Every message names the file and the line.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Self, TextIO

from pydantic import ValidationError

from extracot.files import write_atomic
from extracot_client.errors import InvalidArgumentError
from extracot_client.matching import gold_answer
from extracot_client.sweeps import SweepProblem, as_problem, budget_key
from extracot_client.types import SweepRow

QUESTION_FIELDS = ("question", "problem", "prompt")
ANSWER_FIELDS = ("answer", "gold", "final_answer")
ID_FIELDS = ("id", "problem_id")


class SweepFileError(InvalidArgumentError):
    """A file of a sweep cannot be used as it is; the message names file and line."""


def read_problems(stream: TextIO, name: str, *, as_csv: bool) -> list[SweepProblem]:
    """Problems, one a line: an object or columns with ``question`` (or ``problem``, ``prompt``)
    and perhaps ``answer`` and ``id``; a JSONL line may also be a bare string. Raises
    :class:`SweepFileError`."""
    rows = _csv_rows(stream, name) if as_csv else _jsonl_rows(stream, name)
    problems: list[SweepProblem] = []
    seen: dict[str, str] = {}
    for where, row in rows:
        problem = _problem(row, where)
        if problem.id in seen:
            raise SweepFileError(
                f"{where}: the id {problem.id!r} was already in {seen[problem.id]}"
            )
        seen[problem.id] = where
        problems.append(problem)
    if not problems:
        raise SweepFileError(f"{name}: holds no problem")
    return problems


def _lines(stream: TextIO, name: str) -> Iterator[str]:
    try:
        yield from stream
    except UnicodeDecodeError as error:
        raise SweepFileError(f"{name}: not UTF-8: {error.reason}") from None


def _jsonl_rows(stream: TextIO, name: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(_lines(stream, name), start=1):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        try:
            yield where, json.loads(line)
        except (ValueError, RecursionError):
            raise SweepFileError(f"{where}: not JSON") from None


def _csv_rows(stream: TextIO, name: str) -> Iterator[tuple[str, Any]]:
    reader = csv.DictReader(_lines(stream, name), strict=True)
    try:
        for row in reader:
            yield f"{name}:{reader.line_num}", row
    except csv.Error as error:
        raise SweepFileError(f"{name}:{reader.line_num}: not CSV: {error}") from None


def _problem(row: Any, where: str) -> SweepProblem:
    if isinstance(row, str):
        return as_problem(_question(row, where))
    if not isinstance(row, Mapping):
        raise SweepFileError(f"{where}: a problem is an object or a string")
    question = _field(row, QUESTION_FIELDS)
    if question is None:
        raise SweepFileError(f"{where}: no field {' or '.join(QUESTION_FIELDS)}")
    bare = as_problem(_question(question, where))
    given, answer = _field(row, ID_FIELDS), _field(row, ANSWER_FIELDS)
    return SweepProblem(
        id=bare.id if given is None else str(given),
        question=bare.question,
        answer=None if answer is None else gold_answer(str(answer)),
    )


def _question(text: object, where: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise SweepFileError(f"{where}: the question is empty or no text")
    return text


def _field(row: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


class RowStore:
    """Rows in a JSONL file, one flushed line each, so that an interrupted sweep goes on.

    A torn last line is cut off; of several rows with one key the last counts; failed rows are
    asked again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: dict[tuple[str, str, str], SweepRow] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        try:
            self._load(self._file)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _load(self, file: IO[bytes]) -> None:
        file.seek(0)
        end = 0
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            end += len(line)
            if not line.strip():
                continue
            try:
                row = SweepRow.model_validate_json(line)
            except ValidationError as error:
                field = ".".join(map(str, error.errors()[0]["loc"])) or "the line"
                raise SweepFileError(
                    f"{self._path}:{number}: no row of a sweep ({field}); name another output file"
                ) from None
            self._rows[_key(row)] = row
        file.truncate(end)  # the file is open for appending: what is written goes to this end

    def get(self, problem_id: str, budget: Any, mark: str) -> SweepRow | None:
        """The row kept for this problem, budget and fingerprint, unless its request failed."""
        row = self._rows.get((problem_id, budget_key(budget), mark))
        return row if row is not None and row.error is None else None

    def add(self, row: SweepRow) -> None:
        """Append ``row``; it is in the file when this returns."""
        self._file.write(row.model_dump_json().encode("utf-8") + b"\n")
        self._file.flush()
        self._rows[_key(row)] = row


def _key(row: SweepRow) -> tuple[str, str, str]:
    return row.problem_id, budget_key(row.budget), row.fingerprint


def write_csv(path: Path, rows: Iterable[SweepRow]) -> None:
    """All rows as a CSV table."""
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, fieldnames=list(SweepRow.model_fields))
    writer.writeheader()
    for row in rows:
        writer.writerow({**row.model_dump(mode="json"), "budget": budget_key(row.budget)})
    write_atomic(path, table.getvalue())
