"""What tests of engines share: running a request to its end, finding vLLM's engine process."""

from __future__ import annotations

from dataclasses import dataclass

from extracot_server.engine.base import Engine, GenerationRequest, TokenLogprob
from extracot_server.engine.vllm.engine import VllmEngine
from extracot_server.engine.vllm.process import process_ids


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


def engine_process(engine: VllmEngine) -> int:
    """The id of its process, vLLM's EngineCore."""
    (found,) = process_ids(engine._llm)
    return found
