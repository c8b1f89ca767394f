"""Terminal output: colours where they are wanted, tables, a progress line, safe text.

Colours only on a terminal and never with ``NO_COLOR`` (https://no-color.org) or ``TERM=dumb``.
"""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

# Everything a terminal interprets instead of showing: C0 but tab and newline, DEL, C1.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Style:
    """Colours, or none."""

    colours: bool

    @classmethod
    def of(cls, stream: TextIO, variables: Mapping[str, str] = os.environ) -> Style:
        """The style for ``stream``."""
        wanted = not variables.get("NO_COLOR") and variables.get("TERM") != "dumb"
        return cls(wanted and is_terminal(stream))

    def _wrap(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colours and text else text

    def dim(self, text: str) -> str:
        """Secondary text."""
        return self._wrap("2", text)

    def bright(self, text: str) -> str:
        """Primary text."""
        return self._wrap("1", text)

    def bad(self, text: str) -> str:
        """An error."""
        return self._wrap("31", text)


def is_terminal(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def printable(text: str) -> str:
    """``text`` without what a terminal interprets: a model's reply may hold escape sequences."""
    return _CONTROL.sub("�", text)


def width_of(text: str) -> int:
    """Columns that ``text`` takes: wide East Asian characters two, combining ones none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def clip(text: str, width: int) -> str:
    """``text`` on one line in at most ``width`` columns."""
    text = printable(" ".join(text.split()))
    if width_of(text) <= width:
        return text
    kept = ""
    for char in text:
        if width_of(kept + char) > width - 1:
            break
        kept += char
    return kept + "…"


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], style: Style, *, left: int = 1
) -> str:
    """Columns side by side, the first ``left`` and the last aligned left, the others right; the
    last is cut so that lines fit the terminal."""
    columns = shutil.get_terminal_size((100, 24)).columns if style.colours else 160
    widths = [max(width_of(line[i]) for line in (head, *rows)) for i in range(len(head))]
    before = sum(widths[:-1]) + 2 * (len(head) - 1)
    widths[-1] = max(8, min(widths[-1], columns - before))

    def line(cells: Sequence[str]) -> str:
        padded = []
        for index, cell in enumerate(cells):
            if index == len(cells) - 1:
                padded.append(clip(cell, widths[index]))
                continue
            space = " " * (widths[index] - width_of(cell))
            padded.append(cell + space if index < left else space + cell)
        return "  ".join(padded).rstrip()

    return "\n".join([style.dim(line(head)), *(line(row) for row in rows)])


class Progress:
    """A line that fills up, on standard error: redrawn on a terminal, else one line each tenth."""

    def __init__(self, stream: TextIO, total: int, done: int = 0) -> None:
        self._stream = stream
        self._total = max(total, 1)
        self._done = done
        self._live = is_terminal(stream)
        self._tenth = 10 * done // self._total

    def step(self, note: str) -> None:
        """One more is done."""
        self._done += 1
        share = min(self._done / self._total, 1.0)
        if self._live:
            bar = ("#" * int(share * 24)).ljust(24)
            self._stream.write(f"\r\x1b[K[{bar}] {self._done}/{self._total}  {clip(note, 40)}")
        elif 10 * self._done // self._total > self._tenth:
            self._tenth = 10 * self._done // self._total
            self._stream.write(f"{self._done}/{self._total}  {clip(note, 60)}\n")
        self._stream.flush()

    def close(self) -> None:
        """Leave the line."""
        if self._live:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
