"""Rows of a file: JSONL, JSON, CSV, TSV or Parquet, each value as it stands there.

Read by the standard library and pyarrow: an integer keeps all its digits, a date stays the text
that it is, and a column may hold texts in one row and numbers in another. Knows no field's name.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import IO, Any

from extracot_training.errors import RowError, StageError

KINDS = "JSONL, JSON, CSV, TSV or Parquet"
# What is read as none of the kinds, and would only be told to be no text.
PACKED = frozenset({".gz", ".bz2", ".xz", ".zst", ".zip"})
SHEETS = frozenset({".xlsx", ".xls", ".xlsm", ".ods", ".numbers"})
ABSENT = object()
_BOM = b"\xef\xbb\xbf"
_WIDE = (b"\xff\xfe", b"\xfe\xff")
_SIGNS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
NO_UTF8 = "not UTF-8 text; save it as UTF-8"

# The line that a row ends on (from 1; of a file without lines: its number), and its values.
Values = tuple[int, Mapping[str, Any]]
# What becomes of a fault of one row: raised, or else the row is left out.
Bad = Callable[[RowError], None]


def refuse(fault: RowError) -> None:
    """Raises it."""
    raise fault


def read_values(path: Path, bad: Bad = refuse) -> Iterator[Values]:
    """The rows of a file, by its suffix (any other than those of :data:`READERS` is JSONL).

    ``bad`` is given a :class:`RowError` with ``file:line`` (without lines: the row's number) for
    what is no row. Raises :class:`StageError` for a file that can't be opened or isn't of its
    format.
    """
    suffix = path.suffix.lower()
    if suffix in PACKED:
        raise StageError(f"{path}: is packed; unpack it to {KINDS}")
    if suffix in SHEETS:
        raise StageError(f"{path}: spreadsheets are not read; save it as CSV (read are {KINDS})")
    reader = READERS.get(suffix, _json_lines)
    try:
        if reader is not _parquet:
            _check_bytes(path)
        yield from reader(path, bad)
    except OSError as error:
        raise StageError(f"{path}: {error.strerror or error}") from error


def _check_bytes(path: Path) -> None:
    """Raises :class:`StageError` for a text of two or four bytes a character, by its mark or by the
    zeros that plain characters have there."""
    with path.open("rb") as stream:
        first = stream.read(4)
    if first[:2] in _WIDE or b"\0" in first:
        raise StageError(f"{path}: is UTF-16 or no text; save it as UTF-8")


def value_at(values: Mapping[str, Any], field: str) -> Any:
    """A key's value; with dots, where there is no such key, one of an object or list below.
    :data:`ABSENT` if there is none."""
    if field in values:
        return values[field]
    level: Any = values
    for part in field.split("."):
        number = part.isdecimal() and len(part) < 10
        if isinstance(level, list) and number and int(part) < len(level):
            level = level[int(part)]
        elif isinstance(level, Mapping) and part in level:
            level = level[part]
        else:
            return ABSENT
    return level


def _json_lines(path: Path, bad: Bad) -> Iterator[Values]:
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, start=1):
            line = raw.removeprefix(_BOM).strip() if number == 1 else raw.strip()
            if not line:
                continue
            try:
                values = _object(path, number, _json(path, number, line))
            except RowError as fault:
                bad(fault)
            else:
                yield number, values


def _json_file(path: Path, bad: Bad) -> Iterator[Values]:
    """A list of objects; a file that does not begin with one is read as JSONL."""
    with path.open("rb") as stream:
        listed = stream.read(4096).removeprefix(_BOM).lstrip().startswith(b"[")
    if not listed:
        yield from _json_lines(path, bad)
        return
    try:
        rows = _json(path, 1, path.read_bytes().removeprefix(_BOM))
    except RowError as fault:  # of the file, no row of which can be told
        raise StageError(str(fault)) from fault
    for number, row in enumerate(rows, start=1):
        try:
            values = _object(path, number, row)
        except RowError as fault:
            bad(fault)
        else:
            yield number, values


def _json(path: Path, line: int, raw: bytes) -> Any:
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_pairs)
    except UnicodeDecodeError as error:
        raise RowError(path, line, NO_UTF8) from error
    except (ValueError, RecursionError) as error:  # ValueError: thousands of digits, too
        raise RowError(path, line, f"not JSON ({error})") from error


class _Doubled(dict[str, Any]):
    """An object that has a key twice, of which JSON's reader would keep the last value."""

    key: str


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    names = [name for name, _ in pairs]
    doubled = _Doubled(found)
    doubled.key = next(name for name in names if names.count(name) > 1)
    return doubled


def _object(path: Path, line: int, values: Any) -> Mapping[str, Any]:
    if not isinstance(values, dict):
        raise RowError(path, line, f"want an object, not {type(values).__name__}")
    if (key := _doubled_key(values)) is not None:
        raise RowError(path, line, f"the key {key[:60]!r} is there twice")
    return values


def _doubled_key(value: Any) -> str | None:
    """The first key that is there twice in an object, or in one below it."""
    if isinstance(value, _Doubled):
        return value.key
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((key for one in below if (key := _doubled_key(one)) is not None), None)


def _separated(path: Path, bad: Bad) -> Iterator[Values]:
    """CSV or TSV with names in its first line; every value is a text, an empty one is null."""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    csv.field_size_limit(sys.maxsize)  # a trace may be longer than the 131072 characters it is
    with path.open("rb") as stream:
        lines = _TextLines(path, stream)
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
        names = _header(path, rows, lines)
        _check_separator(path, names, delimiter)
        while True:
            try:
                cells = _next_row(path, rows, lines)
                if cells is None:
                    return
                if len(cells) not in (0, len(names)):
                    why = f"{len(cells)} cells under {len(names)} names; quote a cell with "
                    raise RowError(path, lines.number, why + repr(delimiter))
            except RowError as fault:
                bad(fault)
                continue
            if any(cells):
                values = {name: cell or None for name, cell in zip(names, cells, strict=True)}
                yield lines.number, values


class _TextLines(Iterator[str]):
    """The lines of a file, which goes on after one that is no text. ``number``: of the last."""

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self.number = 0
        self._path = path
        self._lines = iter(stream)

    def __next__(self) -> str:
        raw = next(self._lines)
        self.number += 1
        try:
            return (raw.removeprefix(_BOM) if self.number == 1 else raw).decode("utf-8")
        except UnicodeDecodeError as error:
            raise RowError(self._path, self.number, NO_UTF8) from error


def _next_row(path: Path, rows: Iterator[list[str]], lines: _TextLines) -> list[str] | None:
    """``None`` at the end. Raises :class:`RowError`, or :class:`StageError` for a quote that is
    never closed: which rows it has swallowed nobody can tell."""
    try:
        return next(rows, None)
    except csv.Error as error:
        fault = RowError(path, lines.number, f"not CSV ({error})")
        if "unexpected end" in str(error):
            raise StageError(str(fault)) from error
        raise fault from error


def _header(path: Path, rows: Iterator[list[str]], lines: _TextLines) -> list[str]:
    """The names, without which there is no row; none of an empty file."""
    try:
        names = [cell.strip() for cell in _next_row(path, rows, lines) or ()]
    except RowError as fault:
        raise StageError(str(fault)) from fault
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise StageError(f"{path}:1: the column name {twice!r} is there twice")
    return names


def _check_separator(path: Path, names: list[str], delimiter: str) -> None:
    """Raises :class:`StageError` where the one name there is holds another sign that separates."""
    if len(names) != 1:
        return
    other = next((sign for sign in _SIGNS if sign != delimiter and sign in names[0]), None)
    if other is not None:
        rather = " (or name it .tsv)" if other == "\t" else ""
        raise StageError(
            f"{path}:1: its columns are separated by {_SIGNS[other]}, and {_SIGNS[delimiter]} are "
            f"wanted in a {path.suffix.lower()} file; save it so{rather}"
        )


def _parquet(path: Path, _: Bad) -> Iterator[Values]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.stat().st_size:
        return
    try:
        with pq.ParquetFile(path) as file:
            # Arrow calls single precision `float`, half `halffloat`: other columns are as they are.
            kinds = {p.name: p.type for p in file.schema_arrow if "float" in str(p.type)}
            batches = file.iter_batches(batch_size=1024)
            rows = chain.from_iterable(batch.to_pylist() for batch in batches)
            for number, values in enumerate(rows, start=1):
                values |= {name: _short(values[name], kind) for name, kind in kinds.items()}
                yield number, {key: _plain(value) for key, value in values.items()}
    except pa.ArrowException as error:
        raise StageError(f"{path}: not Parquet ({str(error).splitlines()[0]})") from error


def _short(value: Any, kind: Any) -> Any:
    """``value`` of Arrow's type ``kind``, its numbers of half and single precision as they were
    written: Python's own are longer (0.1 would be 0.10000000149011612)."""
    import numpy as np
    import pyarrow as pa

    if value is None:
        return None
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):
        return float(str((np.float16 if pa.types.is_float16(kind) else np.float32)(value)))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return [_short(item, kind.value_type) for item in value]
    if pa.types.is_struct(kind):
        return {part.name: _short(value[part.name], part.type) for part in kind}
    return value


def _plain(value: Any) -> Any:
    """Values that JSON has no type for, as it would write them."""
    match value:
        case dict():
            return {key: _plain(inner) for key, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
        case Decimal():
            return f"{value:f}"
        case datetime() | date() | time():
            return value.isoformat()
    return value


READERS: dict[str, Callable[[Path, Bad], Iterator[Values]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_file,
    ".csv": _separated,
    ".tsv": _separated,
    ".parquet": _parquet,
}
