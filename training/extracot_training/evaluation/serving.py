"""Serves a published folder with ``extracot-serve`` while something is asked of it: a process of
its own that is met over HTTP only. Knows no stage.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from extracot.card import BudgetCard
from extracot_training.errors import StageError

UNNAMED = "published"
_PACKAGES = ("vllm", "extracot_server", "fastapi", "uvicorn")
_READY = re.compile(r"ready after .* at (http://\S+)/v1")
_POLL_S = 0.2
_STOP_S = 60.0


class ServingError(StageError):
    """The folder could not be served."""


def lacking() -> str | None:
    """The first package that serving needs and that is not installed."""
    absent = (name for name in _PACKAGES if importlib.util.find_spec(name) is None)
    return next(absent, None)


@contextmanager
def served(
    folder: Path,
    arguments: Sequence[str],
    timeout_s: float,
    *,
    log: Path | None = None,
    begin: Callable[[], None] | None = None,
) -> Iterator[str]:
    """The server's address while the block runs. Its output goes to ``log``, which is left there;
    ``begin`` is called in the new process first.

    Raises :class:`ServingError` in one line.
    """
    command = [*_server(folder), "--host", "127.0.0.1", "--port", "0"]
    with TemporaryDirectory(prefix="extracot-serving-") as scratch:
        log = log or Path(scratch) / "log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                preexec_fn=begin,
            )
        try:
            yield _wait(process, log, timeout_s)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def become_server(folder: Path, become: Callable[[str, list[str]], object] = os.execv) -> None:
    """Go on as the folder's server, at its usual address."""
    sys.stdout.flush()
    become(sys.executable, _server(folder))


def _server(folder: Path) -> list[str]:
    command = [sys.executable, "-m", "extracot_server.cli", "--model", str(folder)]
    if BudgetCard.load(folder).model is None:  # else it has to be served by the name on its card
        command += ["--served-model-name", UNNAMED]
    return command


def _wait(process: subprocess.Popen[bytes], log: Path, timeout_s: float) -> str:
    """The address the server says it is ready at."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        text = log.read_text(encoding="utf-8", errors="replace")
        if ready := _READY.search(text):
            return ready[1]
        with suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_S)
            text = log.read_text(encoding="utf-8", errors="replace")
            said = [line for line in text.splitlines() if "error" in line.lower()] or ["nothing"]
            raise ServingError(f"the server did not start; it said: {said[-1][:400]}")
    raise ServingError(f"the server was not ready within {timeout_s:g} s")
