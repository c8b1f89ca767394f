"""The rows that stages pass on, and reading and writing them as JSONL or Parquet.

Rows are strict: an unknown or ill-typed field is an error that names file, line and field.
This module does not know which stage makes which row.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from extracot_training.errors import RowError, StageError
from extracot_training.pipeline.files import write_atomic

ROWS_FILENAME = "rows.jsonl"
PARQUET_FILENAME = "rows.parquet"

_BOM = b"\xef\xbb\xbf"


def _not_blank(text: str) -> str:
    if text.isspace():
        raise ValueError("is blank")
    return text


Split = Literal["train", "dev", "test", "heldout_families"]
NonEmpty = Annotated[str, Field(min_length=1), AfterValidator(_not_blank)]
Ratio = Annotated[float, Field(gt=0.0, le=1.0)]
# Whatever is counted here is far below; sums and means of such numbers stay exact.
Count = Annotated[int, Field(ge=0, le=2**53)]


class Record(BaseModel, ABC, extra="forbid", frozen=True, allow_inf_nan=False):
    """A row. ``key`` is unique within a file; resuming and de-duplication go by it."""

    @property
    @abstractmethod
    def key(self) -> str:
        """Tells the row from all others of its file; empty where nothing goes by it."""


class Problem(Record):
    """A question with its gold answer.

    ``id`` is derived from source and question, so it is the same in every run. ``answer`` is bare
    (no ``\\boxed{}``). ``solution`` is the data's own worked reasoning, where it has one.
    """

    id: NonEmpty
    question: NonEmpty
    answer: NonEmpty
    solution: str | None = None
    source: NonEmpty
    license: str
    split: Split
    family: str | None = None
    steps: Count | None = None
    synthetic: bool = False
    meta: dict[str, Any] = Field(default_factory=dict)

    @property
    def key(self) -> str:
        return self.id

    @property
    def asked(self) -> int | None:
        """How many of several stories the question asks for; ``None`` where there are not
        several."""
        asked = self.meta.get("asked")
        return asked if type(asked) is int and asked > 0 else None


class SampleRecord(Record):
    """What every row about one sample of one problem holds.

    ``split`` is the problem's; rows of older versions don't say it.
    """

    problem_id: NonEmpty
    sample: Count
    question: NonEmpty
    split: Split | None = None

    @property
    def key(self) -> str:
        """``problem_id/sample``."""
        return f"{self.problem_id}/{self.sample}"


class ReasonedSample(SampleRecord):
    """A sample with its texts. ``reasoning`` is the think text alone; ``answer`` is what follows it
    and holds ``\\boxed{}``."""

    reasoning: str
    answer: str
    gold: NonEmpty


class TraceText(ReasonedSample, extra="ignore"):
    """What :class:`Trace` and :class:`Annotation` have in common, for stages that take the rows of
    either. Their other fields are let be; ``correct`` is ``False`` only for a wrong trace."""

    correct: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _kept(cls, row: Any) -> Any:
        attempt = "reason" in cls.model_fields
        if not attempt and isinstance(row, dict) and row.get("reason") is not None:
            raise ValueError("it is a sample that stage teach left out, by its `reason`")
        return row


class Trace(TraceText, extra="forbid"):
    """One reasoning trace. ``tokens`` counts ``reasoning`` in the teacher's tokens, if known.
    ``meta`` holds what is known of the text, such as labels of its steps."""

    teacher: NonEmpty
    synthetic: bool = False
    tokens: Count | None = None
    meta: dict[str, Any] = Field(default_factory=dict)


class Annotation(ReasonedSample):
    """Which characters of ``reasoning`` to keep: half-open spans, sorted, disjoint, each a union of
    whole atoms. ``scores`` has one number per atom; ``usage`` counts tokens and cost; ``meta`` is
    the trace's."""

    keep: list[tuple[int, int]]
    annotator: NonEmpty
    scores: list[float] | None = None
    usage: dict[str, Any] = Field(default_factory=dict)
    meta: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _spans_fit(self) -> Self:
        end = 0
        for start, stop in self.keep:
            if not end <= start < stop <= len(self.reasoning):
                raise ValueError(
                    f"keep span [{start}, {stop}) is empty, unsorted, overlapping or out of range"
                )
            end = stop
        return self


class CompressedTrace(SampleRecord):
    """A trace compressed to ``target``, a share of its tokens.

    ``realised`` is ``tokens_kept / tokens_full`` in the policy model's tokens; ``overshoot`` is
    ``realised - target`` where positive. ``kept_atoms`` indexes the trace's ``n_atoms`` atoms.
    """

    answer: str
    gold: NonEmpty
    target: Ratio
    text: str
    realised: float
    overshoot: float
    tokens_full: Count
    tokens_kept: Count
    kept_atoms: list[Count]
    n_atoms: Count

    @property
    def key(self) -> str:
        """``problem_id/sample@target``: one trace has a row per target."""
        return f"{self.problem_id}/{self.sample}@{self.target:g}"


R = TypeVar("R", bound=Record)
M = TypeVar("M", bound=BaseModel)


def rows_file(path: Path) -> Path:
    """The rows of a stage folder (``rows.jsonl``, else ``rows.parquet``), or ``path`` if a file.

    Raises :class:`StageError` when there is none.
    """
    for found in (path, path / ROWS_FILENAME, path / PARQUET_FILENAME):
        if found.is_file():
            return found
    why = "holds neither rows.jsonl nor rows.parquet" if path.is_dir() else "no such file or folder"
    raise StageError(f"{path}: {why}")


def read_rows(path: Path, model: type[R]) -> Iterator[R]:
    """Rows of a file or stage folder, in order, without blank lines and a byte order mark.

    Raises :class:`RowError` naming ``file:line`` (for Parquet: the row number) and the field, also
    for a row whose key another one has.
    """
    path = rows_file(path)
    read = _read_parquet if path.suffix == ".parquet" else _read_jsonl
    first: dict[str, int] = {}
    for number, row in read(path, model):
        if row.key and (before := first.setdefault(row.key, number)) != number:
            message = f"the row {row.key!r} is there twice, first at {before}; remove one of them"
            raise RowError(path, number, message)
        yield row


def read_problems(path: Path, splits: Sequence[Split], limit: int | None) -> list[Problem]:
    """The first ``limit`` problems of these splits. :class:`StageError` if there are none."""
    found = list(islice((p for p in read_rows(path, Problem) if p.split in splits), limit))
    if not found:
        raise StageError(f"{path}: no problem in the splits {', '.join(splits)}")
    return found


def write_rows(path: Path, rows: Iterable[Record]) -> int:
    """Write all rows at once, atomically, as JSONL or Parquet by suffix. Returns how many."""
    listed = list(rows)
    if path.suffix == ".parquet":
        _write_parquet(path, listed)
    else:
        write_atomic(path, "".join(f"{row.model_dump_json()}\n" for row in listed))
    return len(listed)


class JsonlWriter(AbstractContextManager["JsonlWriter"]):
    """Appends rows to a JSONL file so that a killed run can go on where it was.

    Opening an existing file reads its keys and drops a torn last line (no newline at its end: the
    write was cut). Every row is flushed. A key already there is refused: no row is doubled. A
    failed write (full disk) takes its own half line back and raises :class:`StageError`.
    """

    def __init__(self, path: Path, model: type[Record]) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("ab", buffering=0)
        self._size = self._drop_torn_line()
        self._done: set[str] = set()
        for row in read_rows(path, model):
            self._mark(row.key)

    def done_keys(self) -> frozenset[str]:
        """Keys of all rows in the file now."""
        return frozenset(self._done)

    def __contains__(self, key: object) -> bool:
        return key in self._done

    def write(self, row: Record) -> None:
        """Append one row. Raises :class:`StageError` on a doubled key or a failed write."""
        self._mark(row.key)
        data = row.model_dump_json().encode("utf-8") + b"\n"
        rest = data
        try:
            while rest:
                rest = rest[self._stream.write(rest) or 0 :]
        except OSError as error:
            self._stream.truncate(self._size)
            self._done.discard(row.key)
            raise StageError(f"{self.path}: could not write a row: {error.strerror}") from error
        self._size += len(data)

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def _mark(self, key: str) -> None:
        if key in self._done:
            raise StageError(f"{self.path}: the row {key!r} is there twice")
        self._done.add(key)

    def _drop_torn_line(self) -> int:
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            self._stream.truncate(whole)
        return whole


def first_problem(error: ValidationError) -> tuple[str | None, str]:
    """The first fault of a validation error as (dotted field or None, message)."""
    fault = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in fault["loc"]) or None
    return field, fault["msg"]


def read_json(path: Path, model: type[M]) -> M:
    """A JSON file as ``model``. Raises :class:`StageError` in one line that names the field."""
    try:
        return model.model_validate_json(path.read_bytes())
    except ValidationError as error:
        field, message = first_problem(error)
        where = f"field {field!r}: " if field else ""
        raise StageError(f"{path}: {where}{message}") from error


def _parse(path: Path, number: int, line: bytes, model: type[R]) -> R:
    try:
        return model.model_validate_json(line)
    except ValidationError as error:
        field, message = first_problem(error)
        raise RowError(path, number, message, field=field) from error


def _json_columns(model: type[Record]) -> set[str]:
    """Columns that are free-form objects; Parquet has no type for those, so they go as JSON."""
    return {name for name, info in model.model_fields.items() if info.annotation == dict[str, Any]}


def _read_jsonl(path: Path, model: type[R]) -> Iterator[tuple[int, R]]:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            text = line.removeprefix(_BOM) if number == 1 else line
            if text.strip():
                yield number, _parse(path, number, text, model)


def _read_parquet(path: Path, model: type[R]) -> Iterator[tuple[int, R]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    encoded = _json_columns(model)
    try:
        with pq.ParquetFile(path) as file:
            batches = file.iter_batches(batch_size=1024)
            rows = chain.from_iterable(batch.to_pylist() for batch in batches)
            for number, row in enumerate(rows, start=1):
                for name in encoded & row.keys():
                    row[name] = _from_json(path, number, name, row[name])
                line = json.dumps(row, default=str).encode("utf-8")
                yield number, _parse(path, number, line, model)
    except pa.ArrowException as error:
        raise StageError(f"{path}: not Parquet ({str(error).splitlines()[0]})") from error


def _from_json(path: Path, number: int, field: str, value: object) -> object:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise RowError(path, number, f"not JSON ({error})", field=field) from error


def _write_parquet(path: Path, rows: list[Record]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    encoded = _json_columns(type(rows[0])) if rows else set()
    dumped = [row.model_dump(mode="json") for row in rows]
    for row in dumped:
        for name in encoded:
            row[name] = json.dumps(row[name])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(dumped), sink)
    write_atomic(path, sink.getvalue().to_pybytes())
