"""Children that must not outlive the server."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

from extracot_server.engine.vllm.orphans import Guard

SERVER = """
import subprocess, sys
from extracot_server.engine.vllm.orphans import Guard
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
guard = Guard([child.pid])
print(child.pid, flush=True)
input()
"""


def ends(process: int, seconds: float) -> bool:
    """Whether a process, given by its descriptor, ends within a time."""
    return bool(select.select([process], [], [], seconds)[0])


def test_a_killed_server_takes_its_children_along() -> None:
    # The child's own standard input is held open here, so that it has no other reason to end.
    held, writer = os.pipe()
    code = SERVER.replace("stdin=subprocess.PIPE", f"stdin={held}")
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=[held, writer]
    ) as server:
        assert server.stdout is not None
        child = os.pidfd_open(int(server.stdout.readline()))
        assert not ends(child, 0)
        os.kill(server.pid, signal.SIGKILL)
        assert ends(child, 60)
    for descriptor in (child, held, writer):
        os.close(descriptor)


def test_released_processes_live_on() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        guard = Guard([child.pid, 2**22 + 1])
        guard.release()
        guard.release()
        assert child.poll() is None
        child.kill()
