"""Models made once and kept in the user's cache: whole or not there, whatever happens meanwhile.

One process makes it and others wait; a kill leaves a hidden folder, which the next one removes.
Knows nothing of what is made.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from extracot_server.engine.base import EngineStartError

_DONE_FILE = "extracot_source.json"


@dataclass(frozen=True, slots=True)
class Making:
    """What is to be made. ``mark`` is what a finished folder says of itself; one that says anything
    else is made again. ``make`` fills a new folder: it raises ``EngineStartError`` or ``OSError``.
    """

    name: str
    called: str
    """In messages, such as "the bundled model smollm2"."""
    beginning: str
    mark: Mapping[str, str | int]
    needed_bytes: int
    make: Callable[[Path], None]


def cache_folder() -> Path:
    """Where models are kept: a folder in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "extracot" / "models"


def is_kept(mark: Mapping[str, str | int], target: Path) -> bool:
    """Whether what has this mark is there already; what cannot be read is not."""
    try:
        return bool(json.loads((target / _DONE_FILE).read_text()) == mark)
    except (OSError, ValueError):
        return False


def keep(making: Making, target: Path) -> Path:
    """``target``, made if it is not there; safe for several processes at once.

    Raises :class:`EngineStartError` in one line.
    """
    if is_kept(making.mark, target):
        return target
    root = target.parent
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / f".{target.name}.lock", making.name):
            if not is_kept(making.mark, target):
                _make(making, target)
    except OSError as error:
        raise EngineStartError(_storage_problem(making, root, error)) from None
    return target


def _make(making: Making, target: Path) -> None:
    say(making.beginning)
    prefix = f".{target.name}."
    for left in target.parent.glob(f"{glob.escape(prefix)}*"):
        if left.is_dir():  # of a process that was killed: nobody else is here
            shutil.rmtree(left)
    free = shutil.disk_usage(target.parent).free
    if free < making.needed_bytes:
        raise OSError(
            errno.ENOSPC, f"{making.needed_bytes >> 20} MiB needed, {free >> 20} MiB free"
        )
    with tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent) as scratch:
        folder = Path(scratch) / "model"
        making.make(folder)
        (folder / _DONE_FILE).write_text(json.dumps(dict(making.mark)) + "\n")
        if target.exists():  # of an older version, or half deleted
            shutil.rmtree(target)
        os.replace(folder, target)
    say(f"{making.called} is ready in {target}")


def run_step(command: Sequence[str], failed: str, told: Callable[[str], None] | None = None) -> str:
    """Run a Python module's command in a process of its own, which takes its memory with it.

    The last line of its output; ``told`` gets each. Raises ``OSError`` for a full disk, and
    :class:`EngineStartError`, which begins with ``failed``.
    """
    last = ""
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        with subprocess.Popen(
            [sys.executable, "-m", *command], stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                last = line.strip()
                if told is not None:
                    told(last)
        errors.seek(0)
        printed = errors.read()
    if process.returncode == 0:
        return last
    if "No space left" in printed:
        raise OSError(errno.ENOSPC, "no space left on the device")
    if process.returncode < 0:
        reason = f"ended by signal {-process.returncode} (too little memory?)"
    else:
        reason = (printed.strip().splitlines() or ["no message"])[-1][:300]
    raise EngineStartError(f"{failed}: {reason}")


def say(line: str) -> None:
    """Tell whoever started this."""
    print(f"extracot: {line}", file=sys.stderr, flush=True)


def _storage_problem(making: Making, root: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"no room for {making.called} in {root}: {error.strerror}"
    return f"{making.called} cannot be stored in {root}: {error.strerror or error}"


@contextmanager
def _locked(path: Path, name: str) -> Iterator[None]:
    """Hold an advisory lock; the system drops it with the process, so it cannot be left behind."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that prepares {name}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
