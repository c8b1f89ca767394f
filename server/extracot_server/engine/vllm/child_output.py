"""Keeps what child processes print while an engine starts, to report a failure in one line.

A child that dies at start prints long tracebacks to the descriptors it inherited. While
:class:`ChildOutput` is entered, descriptors 1 and 2 of this process lead to a pipe, which children
started meanwhile keep. Lines go on to standard error as they come, except that from the first sign
of a failure they are held back until it is known how the start ended. Knows nothing of vLLM.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections import deque
from types import TracebackType

_HELD_LINES = 2000
_FAILURE = re.compile(
    r"\bERROR\b|^Traceback \(most recent call last\)|^(?:Process|Exception in thread) \S+:?"
)


class ChildOutput:
    """Context manager around the start; ``held`` are the lines kept from the first failure on.

    ``hold=False`` passes everything on at once and keeps a copy. Lines that ``drop`` matches are
    never printed.
    """

    def __init__(self, *, hold: bool = True, drop: re.Pattern[str] | None = None) -> None:
        self._hold = hold
        self._drop = drop
        self._holding = False
        self._lock = threading.Lock()
        self._lines: deque[str] = deque(maxlen=_HELD_LINES)
        self._saved: tuple[int, int] = (-1, -1)
        self._out = -1
        self._thread: threading.Thread | None = None

    @property
    def held(self) -> list[str]:
        """Lines from the first sign of a failure on, oldest first."""
        with self._lock:
            return list(self._lines)

    def __enter__(self) -> ChildOutput:
        sys.stdout.flush()
        sys.stderr.flush()
        self._saved = (os.dup(1), os.dup(2))
        self._out = os.dup(2)
        reader, writer = os.pipe()
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        os.close(writer)
        self._thread = threading.Thread(
            target=self._forward, args=(reader,), name="engine-output", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, saved in zip((1, 2), self._saved, strict=True):
            os.dup2(saved, number)
            os.close(saved)
        if error is None:
            self.release()

    def drain(self, seconds: float = 2.0) -> None:
        """Wait, after the children's end, until their last lines have been read."""
        if self._thread is not None:
            self._thread.join(seconds)

    def release(self) -> None:
        """Print what was held and hold nothing from now on."""
        with self._lock:
            held = list(self._lines) if self._hold else []
            self._hold = False
            for line in held:
                self._print(line)
            if self._thread is not None and not self._thread.is_alive():
                self._close()

    def _forward(self, reader: int) -> None:
        """Until the last process that holds the pipe is gone; progress bars end in a return."""
        rest = b""
        while data := os.read(reader, 2**16):
            *whole, rest = re.split(rb"(?<=[\r\n])", rest + data)
            with self._lock:
                for line in whole:
                    self._take(line.decode("utf-8", errors="replace"))
        os.close(reader)
        with self._lock:
            self._take(rest.decode("utf-8", errors="replace"))
            if not self._hold:
                self._close()

    def _take(self, line: str) -> None:
        if not line or (self._drop is not None and self._drop.search(line)):
            return
        if not self._holding and _FAILURE.search(line):
            self._holding = True
        if self._holding:
            self._lines.append(line)
        if not (self._hold and self._holding):
            self._print(line)

    def _print(self, line: str) -> None:
        data = line.encode("utf-8", errors="replace")
        while data and self._out >= 0:
            data = data[os.write(self._out, data) :]

    def _close(self) -> None:
        if self._out >= 0:
            os.close(self._out)
            self._out = -1
