"""Processes that must not outlive this one, however it ends.

vLLM's engine process notices a server that says goodbye, not one that was killed: it would keep its
memory (the GPU's, too) for ever. A small process of our own waits for the end of a pipe, which the
kernel closes with us, and kills them then. Knows nothing of vLLM.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

# Descriptors, not numbers: a number may belong to another process by then.
_PROGRAM = """
import os, signal, sys
kept = []
for number in sys.argv[1:]:
    try:
        kept.append(os.pidfd_open(int(number)))
    except OSError:
        pass
sys.stdin.buffer.read()
for process in kept:
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
    except OSError:
        pass
"""


class Guard:
    """Kills ``process_ids`` when this process ends without :meth:`release`. Linux only."""

    def __init__(self, process_ids: Sequence[int]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM, *map(str, process_ids)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what is sent to our whole group must not end it first
        )

    def release(self) -> None:
        """Let the processes be. Idempotent."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
