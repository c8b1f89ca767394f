"""The files that a sweep writes: rows kept (JSONL, resumable), rows out (CSV).

Problems are read by :mod:`extracot_client.problem_files`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Self

from pydantic import ValidationError

from extracot.files import write_atomic
from extracot_client.origins import Origin
from extracot_client.problem_files import SweepFileError
from extracot_client.sweeps import SweepProblem, budget_key, regraded
from extracot_client.types import SweepRow

_TORN = b'{"' + next(iter(SweepRow.model_fields)).encode() + b'":'
"""How a row begins: what begins otherwise is somebody's text."""


class RowStore:
    """Rows in a JSONL file, one flushed line each, so that an interrupted sweep goes on.

    A row that was torn while it was written is cut off; of several rows with one key the last
    counts; failed rows are asked again. With an ``origin`` rows are kept with it, and one of
    another is refused. A file that was made here and holds no row in the end is taken away.
    """

    def __init__(self, path: Path, origin: Origin | None = None) -> None:
        self._path, self._origin = path, origin
        self._rows: dict[tuple[str, str, str], SweepRow] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._new = not path.exists()
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
        if self._new and not self._rows:
            self._path.unlink(missing_ok=True)

    @property
    def unsigned(self) -> int:
        """How many rows do not say which server they come from."""
        return sum(row.server is None and row.error is None for row in self._rows.values())

    def _load(self, file: IO[bytes]) -> None:
        file.seek(0)
        end = 0
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n") and _TORN.startswith(line[: len(_TORN)]):
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

    def get(self, problem: SweepProblem, budget: Any, mark: str) -> SweepRow | None:
        """The row kept for this problem, budget and fingerprint, unless its request failed.

        It is judged by the problem's answer as it is now, and kept so. Raises
        :class:`SweepFileError` for one that somebody else answered.
        """
        row = self._rows.get((problem.id, budget_key(budget), mark))
        if row is None or row.error is not None:
            return None
        if self._origin is not None and (why := self._origin.other(row)) is not None:
            raise SweepFileError(
                f"{self._path}: the row of problem {row.problem_id!r} at {budget_key(budget)} "
                f"{why}. Name another --out, or delete the file to ask anew",
                param="out",
            )
        if (now := regraded(row, problem)) is not row:
            self._write(now)
        return now

    def add(self, row: SweepRow) -> SweepRow:
        """Append ``row``; it is in the file when this returns. Gives it as it is there."""
        row = row if self._origin is None else self._origin.signed(row)
        self._write(row)
        return row

    def _write(self, row: SweepRow) -> None:
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
