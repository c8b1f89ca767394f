"""Engine processes as forks of one process that has imported vLLM, on machines without a GPU.

A fork server of Python's own `multiprocessing` imports once: an engine process is a fork of it. One
worker runs inside that (`one_process`), of several each is a fork of it. Nothing may have run in
parallel before a fork, so `preload` only imports. Where this cannot be (`possible`, `build`), vLLM
starts processes as it does by itself. Why, and when: docs/decisions/0020. What is replaced here is
internal to vLLM 0.32.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from multiprocessing import forkserver, reduction, resource_tracker
from multiprocessing.context import ForkContext, ForkProcess, ForkServerContext, ForkServerProcess
from typing import Any

from extracot.processes import end_with_parent
from extracot_server.engine.vllm.orphans import Guard
from extracot_server.engine.vllm.process import allow_compiling, on_cpu, prepare_environment
from extracot_server.engine.vllm.threads import use_named_cores

_METHOD = "VLLM_WORKER_MULTIPROC_METHOD"
_OPERATORS_OWN = os.environ.get(_METHOD)
_OTHER_OPENMP = ("libiomp", "libomp")
_PRELOAD = "extracot_server.engine.vllm.preload"
_ONE_PROCESS = "extracot_server.engine.vllm.one_process.OneProcessExecutor"
_SPREAD = (
    *("tensor_parallel_size", "pipeline_parallel_size", "prefill_context_parallel_size"),
    *("data_parallel_size", "nnodes"),
)
_ENDED_BY = (signal.SIGTERM, signal.SIGHUP)
_guards: dict[int, Guard] = {}


class _EngineProcess(ForkServerProcess):
    """An engine process: it takes over the environment and output of the process that starts it."""

    def __getstate__(self) -> dict[str, Any]:
        outputs = [reduction.DupFd(number) for number in (1, 2)]
        return self.__dict__ | {
            "_environment": dict(os.environ),
            "_outputs": outputs,
            "_server": _server_id(),
        }

    def run(self) -> None:
        """In the new process."""
        state = self.__dict__
        for number, output in zip((1, 2), state["_outputs"], strict=True):
            os.dup2(output.detach(), number)
        os.environ.clear()
        os.environ.update(state["_environment"])
        for name in _ENDED_BY:
            signal.signal(name, signal.SIG_DFL)
        _end_with(state["_server"])
        _keep_frozen()
        super().run()


class _WorkerProcess(ForkProcess):
    """A worker: its threads are where vLLM's variables say, which OpenMP has read long ago."""

    def run(self) -> None:
        """In the new process."""
        _end_with(self.__dict__["_parent_pid"])
        _keep_frozen()
        use_named_cores()
        super().run()


class EngineContext(ForkServerContext):
    """For `multiprocessing`: processes that the fork server makes."""

    Process = _EngineProcess


class WorkerContext(ForkContext):
    """For `multiprocessing`: processes that an engine process makes."""

    Process = _WorkerProcess


def start() -> None:
    """Have a fork server begin with its imports, where there can be one. Idempotent."""
    if not possible():
        return
    prepare_environment()
    allow_compiling(False)
    multiprocessing.get_context("forkserver").set_forkserver_preload([_PRELOAD])
    _server_id()


@atexit.register
def _stop() -> None:
    """Kill it, in whatever it is; engines have ended before that, or end with it."""
    for number in _guards.keys() & {_known_id()}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    _release_guards()


def _release_guards() -> None:
    for guard in _guards.values():
        guard.release()
    _guards.clear()


def possible() -> bool:
    """Whether engine processes may be forks."""
    other = any(name in os.environ.get("LD_PRELOAD", "") for name in _OTHER_OPENMP)
    return sys.platform == "linux" and on_cpu() and _OPERATORS_OWN is None and not other


def build(values: dict[str, Any]) -> Any:
    """An AsyncLLM, whose process is a fork where that can be."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.envs import disable_envs_cache, enable_envs_cache
    from vllm.platforms import current_platform
    from vllm.v1.engine.async_llm import AsyncLLM

    compiles = not (current_platform.is_cpu() and values.get("enforce_eager"))
    allow_compiling(compiles)
    forks = not compiles and possible()
    _use(forks=forks)
    if forks and _one_worker(values):
        values = {"distributed_executor_backend": _ONE_PROCESS, **values}
    disable_envs_cache()  # a start reads the environment, and sets some of it
    resource_tracker.ensure_running()  # or it does so in between, and unblocks signals
    # Ctrl-C goes to a whole group, and is for the server alone: processes inherit this.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**values))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    enable_envs_cache()  # or vLLM's statistics look a variable up for every token
    return llm


def _one_worker(values: Mapping[str, Any]) -> bool:
    """Whether a model is not spread over several processes."""
    return all(values.get(name, 1) == 1 for name in _SPREAD)


def _use(forks: bool) -> None:
    """Say how the engine that this process builds next gets its process."""
    from vllm.utils.system_utils import get_mp_context
    from vllm.v1.engine import utils

    vars(utils)["get_mp_context"] = EngineContext if forks else get_mp_context


def use_for_workers() -> None:
    """The same in the fork server: engine processes make workers by forking."""
    from vllm.v1.executor import multiproc_executor

    vars(multiproc_executor)["get_mp_context"] = WorkerContext


def _server_id() -> int:
    """The process id of the fork server that this process started, which has a guard."""
    forkserver.ensure_running()
    number = _known_id()
    if number not in _guards:
        _release_guards()  # of one that has ended
        _guards[number] = Guard([number])
    return number


def _known_id() -> int:
    return int(vars(forkserver._forkserver)["_forkserver_pid"] or 0)


def _keep_frozen() -> None:
    """What was frozen before the fork stays out of collections, to this process's end.

    vLLM ends its processes by searching all of their objects for unused ones, which is for engines
    in processes that go on: here it took two seconds in each, and the kernel frees them all.
    """
    vars(gc)["unfreeze"] = lambda: None


def _end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent is gone, or already is."""
    if not end_with_parent(parent, signal.SIGKILL):
        os.kill(os.getpid(), signal.SIGKILL)
