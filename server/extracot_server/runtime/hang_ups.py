"""SIGHUP before there is anything to read again: it is remembered, and ends no start.

Files of keys and upstreams are read early in a start, and a start may take minutes. Whoever revokes
a key and sends SIGHUP to all servers must reach those that are loading, too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType


class HangUps:
    """Whether a SIGHUP came while :meth:`noted`."""

    def __init__(self) -> None:
        self.came = False
        self._in_terminal = sys.stderr.isatty()

    @property
    def terminal_closed(self) -> bool:
        """Whether it is the terminal that hung up, which ends the server."""
        return self._in_terminal and not sys.stderr.isatty()

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Note it within, as far as no event loop handles it; only a main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGHUP, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGHUP, before)

    def note(self) -> None:
        """It came."""
        self.came = True

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.terminal_closed:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.note()
