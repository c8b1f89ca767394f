"""Pieces of a report in Markdown: tables, counts, numbers, means with their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def table(columns: str, rows: Iterable[str]) -> list[str]:
    """The lines of a table; cells are parted by ``|``: ``table("level | n", ["0.2 | 5"])``."""
    return [f"| {columns} |", "|---" * (columns.count("|") + 1) + "|", *(f"| {r} |" for r in rows)]


def cell(text: str) -> str:
    """A name as it is shown in a table.

    >>> cell("a|b")
    'a\\\\|b'
    """
    return " ".join(text.split()).replace("|", "\\|")


def counts(found: Mapping[Any, object]) -> str:
    """``train 5, dev 2``; ``none`` for nothing."""
    return ", ".join(f"{name} {value}" for name, value in found.items()) or "none"


def number(value: float | None, digits: int = 3) -> str:
    """``0.512``; ``n/a`` where nothing was measured."""
    return "n/a" if value is None else f"{value:.{digits}f}"


def interval(found: Mapping[str, Any] | None, *, sign: bool = False) -> str:
    """A mean with its interval: ``0.512 [0.480, 0.544]``; ``n/a`` where nothing was measured."""
    if found is None:
        return "n/a"
    plus = "+" if sign else ""
    return f"{found['mean']:{plus}.3f} [{found['low']:{plus}.3f}, {found['high']:{plus}.3f}]"
