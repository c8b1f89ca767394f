"""The lines of a batch's input: read one at a time, and checked before anything runs.

A line that is no request is a :class:`Fault` of that line, and no other's. What the request says is
for the endpoint to judge when the line runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extracot_server.batches.records import Fault
from extracot_server.errors import encodable

_MOST_SHOWN = 100
_ENVELOPE_BYTES = 8192  # of a line besides the request's body
_ESCAPED = 3  # bytes of a character as `\uXXXX` for one of UTF-8, at most, where it is not ASCII
_LONGEST_ID = 512


@dataclass(frozen=True, slots=True)
class Line:
    """A request of a batch; ``number`` counts from 1, empty lines included."""

    number: int
    custom_id: str | None
    body: dict[str, Any]
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Overview:
    """What there is to do: lines in all, those that cannot run, and which use an id again."""

    total: int
    faults: tuple[Fault, ...]
    faulty: int
    repeated: frozenset[int]


def read_lines(
    path: Path, endpoint: str, max_body: int, repeated: frozenset[int] = frozenset()
) -> Iterator[Line]:
    """Every line that is not empty; no more than one is in memory.

    Characters may be spelled as escapes: what counts of a body are the bytes of a request.
    """
    limit = _ESCAPED * max_body + _ENVELOPE_BYTES
    with path.open("rb") as stream:
        number = 0
        while raw := stream.readline(limit + 1):
            number += 1
            if len(raw) > limit and not raw.endswith(b"\n"):
                while raw and not raw.endswith(b"\n"):
                    raw = stream.readline(limit)
                text = f"Line {number} is longer than {limit} bytes."
                yield _wrong(number, None, "request_too_large", text)
            elif raw.strip():
                line = _read(number, raw, endpoint, number in repeated)
                if len(raw) > max_body + _ENVELOPE_BYTES and _too_large(line, max_body):
                    text = f"`body` of line {number} is larger than {max_body} bytes."
                    line = _wrong(number, line.custom_id, "request_too_large", text, "body")
                yield line


def body_bytes(body: Mapping[str, Any]) -> bytes:
    """A line's body as a request has it: UTF-8, without blanks; ``RecursionError`` if too deep.

    Half a character stays what it is, for the endpoint to refuse.

    >>> len(body_bytes({"a": "é"}))
    10
    """
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


def _too_large(line: Line, max_body: int) -> bool:
    try:
        return len(body_bytes(line.body)) > max_body
    except RecursionError:  # the endpoint says so
        return False


def look_over(path: Path, endpoint: str, max_body: int, max_lines: int) -> Overview:
    """Read all lines once. Of too many, no more than one too many is looked at."""
    seen: set[str] = set()
    repeated: set[int] = set()
    faults: list[Fault] = []
    total = faulty = 0
    for line in read_lines(path, endpoint, max_body):
        total += 1
        if total > max_lines:
            break
        fault = line.fault
        if fault is None and line.custom_id is not None:
            if line.custom_id in seen:
                repeated.add(line.number)
                fault = _repeated(line.number)
            seen.add(line.custom_id)
        if fault is not None:
            faulty += 1
            faults += [fault] if len(faults) < _MOST_SHOWN else []
    return Overview(total, tuple(faults), faulty, frozenset(repeated))


def _read(number: int, raw: bytes, endpoint: str, repeated: bool) -> Line:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return _wrong(number, None, "invalid_json_line", f"Line {number} is not valid JSON.")
    if not isinstance(found, dict):
        text = f"Line {number} must be a JSON object."
        return _wrong(number, None, "invalid_json_line", text)
    custom_id = found.get("custom_id")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= _LONGEST_ID:
        text = f"`custom_id` of line {number} must be a text of 1 to {_LONGEST_ID} characters."
        return _wrong(number, None, "invalid_custom_id", text, "custom_id")
    if repeated:
        return Line(number, custom_id, {}, _repeated(number))
    if found.get("method") != "POST":
        text = f'`method` of line {number} must be "POST".'
        return _wrong(number, custom_id, "invalid_method", text, "method")
    if found.get("url") != endpoint:
        text = f"`url` of line {number} must be the batch's endpoint, `{endpoint}`."
        return _wrong(number, custom_id, "mismatched_endpoint", text, "url")
    body = found.get("body")
    if not isinstance(body, dict):
        text = f"`body` of line {number} must be a JSON object."
        return _wrong(number, custom_id, "invalid_body", text, "body")
    if body.get("stream"):
        text = f"`body.stream` of line {number}: a batch has whole replies only."
        return _wrong(number, custom_id, "invalid_body", text, "body.stream")
    unknown = sorted(set(found) - {"custom_id", "method", "url", "body"})
    if unknown:
        text = f"Line {number} has the unknown field `{unknown[0][:64]}`."
        return _wrong(number, custom_id, "unknown_field", text, unknown[0][:64])
    return Line(number, custom_id, body)


def _wrong(
    number: int, custom_id: str | None, code: str, message: str, param: str | None = None
) -> Line:
    named = None if param is None else encodable(param)
    fault = Fault(code=code, message=encodable(message), line=number, param=named)
    return Line(number, custom_id, {}, fault)


def _repeated(number: int) -> Fault:
    text = f"`custom_id` of line {number} is that of an earlier line."
    return Fault(code="duplicate_custom_id", message=text, line=number, param="custom_id")
