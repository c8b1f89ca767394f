"""Processes that do not outlive the one that started them, so that nobody is left to hold a folder
or a GPU when a run has been killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.context import (
    BaseContext,
    ForkContext,
    ForkProcess,
    SpawnContext,
    SpawnProcess,
)

from extracot.processes import end_with_parent


def die_with_parent(parent: int, number: signal.Signals = signal.SIGTERM) -> None:
    """Be ended by ``number`` when the process that started this one ends, or has ended (Linux)."""
    here = end_with_parent(parent, number)
    if not here and sys.platform == "linux":
        signal.raise_signal(number)


class _Forked(ForkProcess):
    def run(self) -> None:
        """In the new process."""
        _be_killed_with_parent()
        super().run()


class _Spawned(SpawnProcess):
    def run(self) -> None:
        """In the new process."""
        _be_killed_with_parent()
        super().run()


class _ForkContext(ForkContext):
    Process = _Forked


class _SpawnContext(SpawnContext):
    Process = _Spawned


def tied(context: BaseContext) -> BaseContext:
    """A context of the same kind, whose processes the kernel kills when the thread that starts them
    ends (Linux), so also after SIGKILL, of which nobody can tell them. ``context`` itself where it
    neither forks nor spawns."""
    match context.get_start_method():
        case "fork":
            return _ForkContext()
        case "spawn":
            return _SpawnContext()
    return context


def _be_killed_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        die_with_parent(parent.pid, signal.SIGKILL)


def take_children_along() -> None:
    """Let SIGTERM end the processes that this one has started by multiprocessing, then itself: an
    engine does not notice that the process it works for is gone, and keeps the GPU."""
    here = threading.current_thread() is threading.main_thread()
    if here and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def _end(number: int, _: object) -> None:
    for process in multiprocessing.active_children():
        process.terminate()
    os._exit(128 + number)
