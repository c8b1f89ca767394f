"""The results of a batch while it runs: two files, a line for each line of the input.

A line is appended whole or not at all, and its id names the line of the input, so that after a
crash the files themselves say what is left to do.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extracot_server.batches.lines import Line
from extracot_server.batches.records import Counts, Tokens, json_line

_NUMBER = re.compile(r"batch_req_[0-9a-f]{32}_(\d+)")


@dataclass(frozen=True, slots=True)
class Sent:
    """What an endpoint answered to one line."""

    status: int
    request_id: str
    body: Any
    retry_after: int | None = None
    lost: bool = False
    """Whether the engine failed while it ran."""


class ResultFile:
    """A file of lines that grows; a torn last line is cut off when it is opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._size = 0

    def lines(self) -> Iterator[dict[str, Any]]:
        """What it holds; called once, before anything is appended."""
        self._size = 0
        if not self._path.exists():
            return
        with self._path.open("rb") as stream:
            for raw in stream:
                try:
                    found = json.loads(raw) if raw.endswith(b"\n") else None
                except ValueError:
                    found = None
                if not isinstance(found, dict):  # torn, or behind something that is
                    return
                self._size += len(raw)
                yield found

    def append(self, data: bytes) -> None:
        """A whole line; ``OSError`` leaves the file as it was."""
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            os.ftruncate(self._descriptor, self._size)
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(self._descriptor, data[done:], self._size + done)
        except OSError:
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(data)

    def close(self) -> None:
        """What was appended survives a loss of power from here on."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


class Results:
    """Output and errors of one batch; ``written`` is told the bytes of each line."""

    def __init__(
        self,
        batch_id: str,
        output: Path,
        errors: Path,
        written: Callable[[int], object] = lambda _: None,
    ) -> None:
        self.output_path, self.errors_path = output, errors
        self._output, self._errors = ResultFile(output), ResultFile(errors)
        self._prefix = f"batch_req_{batch_id.removeprefix('batch_')}"
        self._written = written
        self.done: set[int] = set()
        self.counts = Counts()
        self.tokens = Tokens()

    def recover(self, total: int) -> None:
        """Take in what an earlier process wrote."""
        self.counts.total = total
        for file in (self._output, self._errors):
            for found in file.lines():
                number = _NUMBER.fullmatch(str(found.get("id")))
                if number is not None:
                    self.done.add(int(number[1]))
                self._count(found, file is self._output)

    def id_of(self, line: Line) -> str:
        """The id of a line's result."""
        return f"{self._prefix}_{line.number}"

    def add(self, line: Line, sent: Sent) -> None:
        """What an endpoint answered; ``OSError`` if it cannot be written."""
        good = 200 <= sent.status < 300
        response = {
            "status_code": sent.status,
            "request_id": sent.request_id,
            "body": sent.body,
        }
        self._append(line, good, {"response": response, "error": None})

    def add_error(self, line: Line, code: str, message: str) -> None:
        """A line that was not run, and why; ``OSError`` if it cannot be written."""
        error = {"code": code, "message": message}
        if line.fault is not None:
            error |= {"line": line.number, "param": line.fault.param}  # type: ignore[dict-item]
        self._append(line, False, {"response": None, "error": error})

    def close(self) -> None:
        """Bring both to the disk."""
        self._output.close()
        self._errors.close()

    def _append(self, line: Line, good: bool, result: dict[str, Any]) -> None:
        found = {"id": self.id_of(line), "custom_id": line.custom_id, **result}
        data = json_line(found)
        (self._output if good else self._errors).append(data)
        self._written(len(data))
        self.done.add(line.number)
        self._count(found, good)

    def _count(self, found: dict[str, Any], good: bool) -> None:
        if not good:
            self.counts.failed += 1
            return
        self.counts.completed += 1
        used = tokens_of((found.get("response") or {}).get("body"))
        self.tokens.input += used.input
        self.tokens.output += used.output
        self.tokens.reasoning += used.reasoning


def tokens_of(body: Any) -> Tokens:
    """The tokens of a reply in any of the three APIs; zeros where it says none.

    >>> tokens_of({"usage": {"prompt_tokens": 3, "completion_tokens": 2}}).output
    2
    """
    usage = body.get("usage") if isinstance(body, dict) else None
    if not isinstance(usage, dict):
        return Tokens()
    details = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
    # Messages count cached tokens beside `input_tokens`.
    messages = usage.get("input_tokens", 0) + usage.get("cache_read_input_tokens", 0)
    return Tokens(
        input=usage.get("prompt_tokens", messages),
        output=usage.get("completion_tokens", usage.get("output_tokens", 0)),
        reasoning=details.get("reasoning_tokens") or details.get("thinking_tokens") or 0,
    )
