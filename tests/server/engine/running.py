"""What tests of engines share: running a request to its end, finding vLLM's engine process."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from extracot_server.engine.base import (
    Engine,
    GenerationRequest,
    TokenLogprob,
)


@dataclass(frozen=True)
class Run:
    """All of one reply."""

    ids: tuple[int, ...]
    finish: str | None
    logprobs: tuple[TokenLogprob, ...]
    deltas: int


async def run(engine: Engine, request: GenerationRequest) -> Run:
    """Collect a whole stream."""
    ids: list[int] = []
    logprobs: list[TokenLogprob] = []
    finish: str | None = None
    deltas = 0
    async for delta in engine.generate(request):
        assert finish is None, "nothing follows a finish reason"
        ids += delta.token_ids
        logprobs += delta.logprobs or ()
        finish = delta.finish_reason
        deltas += 1
    return Run(tuple(ids), finish, tuple(logprobs), deltas)


def engine_process() -> int:
    """The id of our child that is vLLM's EngineCore."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "status").read_text()
                command = (entry / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            ours = f"PPid:\t{os.getpid()}\n" in status
            if ours and b"EngineCore" in command:
                return int(entry.name)
    raise AssertionError("no engine process found")
