"""The imports that the fork server makes before its first fork. Imported only there.

An import that fails is left to the engine process, which reports it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal

from extracot_server.engine.vllm.fork_server import use_for_workers
from extracot_server.engine.vllm.process import import_engine


def _be_quiet() -> None:
    """Let go of the output: an engine process brings the one that it writes to."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)


def _preload() -> None:
    # To a whole group: SIGTERM and SIGHUP are for engines, too, and Ctrl-C for the server alone.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _be_quiet()
    with contextlib.suppress(Exception):
        import_engine()
        use_for_workers()
        importlib.import_module("vllm.v1.worker.cpu_worker")
        importlib.import_module("extracot_server.engine.vllm.one_process")
        # It looks for its place in memory once, which it does not find in a changed environment.
        importlib.import_module("setproctitle").getproctitle()
    gc.freeze()  # pages that no collection touches stay shared


_preload()
