"""What lies in a folder of records: their names, and traces of those that were deleted.

A trace is an empty file with the name of the record and, as its time, when that was made; lists
that are being read go on from there. Several processes may delete at once. Blocking.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from time import time

_GONE = ".gone"
_GONE_SECONDS = 3600.0
_MOST_GONE = 10_000


def names_in(folder: Path) -> list[str]:
    """What is in a folder; nothing where there is none."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def records_in(folder: Path) -> list[Path]:
    """The records of a folder, in no order."""
    names = (name for name in names_in(folder) if name.endswith(".json"))
    return [folder / name for name in names if not name.startswith(".")]


def size_of(path: Path) -> int:
    """Bytes of a file; 0 if it has gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def leave_trace(path: Path, made_at: int) -> None:
    """Leave a trace of the record at ``path``. Beyond so many there is none: of a client that
    deletes as fast as it can, lists suffer rather than the disk."""
    with contextlib.suppress(OSError):
        if sum(name.endswith(_GONE) for name in names_in(path.parent)) < _MOST_GONE:
            trace = path.with_suffix(_GONE)
            trace.touch(0o600)
            os.utime(trace, (made_at, made_at))


def traced(path: Path) -> int | None:
    """When the record that was at ``path`` was made; ``None`` without a trace."""
    try:
        return int(path.with_suffix(_GONE).stat().st_mtime)
    except FileNotFoundError:
        return None


def clear_traces(folder: Path) -> None:
    """Delete traces of more than an hour ago."""
    for path in folder.glob(f"*{_GONE}"):
        with contextlib.suppress(FileNotFoundError):
            if time() - path.stat().st_ctime > _GONE_SECONDS:
                path.unlink()


def delete_old(path: Path, seconds: float) -> None:
    """Delete what nobody has written to for so long."""
    with contextlib.suppress(FileNotFoundError):
        if time() - path.stat().st_mtime > seconds:
            path.unlink()
