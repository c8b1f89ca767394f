"""What tests of engines share: running a request to its end, finding vLLM's engine process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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


def engine_process(of: VllmEngine | int) -> int:
    """The id of vLLM's EngineCore: of an engine here, or among a process's descendants."""
    if isinstance(of, VllmEngine):
        (found,) = process_ids(of._llm)
        return found
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            named = b"EngineCore" in (folder / "cmdline").read_bytes()
            if named and of in _ancestors(int(folder.name)):
                return int(folder.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    raise AssertionError("no engine process found")


def _ancestors(process: int) -> Iterator[int]:
    while process > 1:
        stat = Path(f"/proc/{process}/stat").read_text()
        process = int(stat.rpartition(")")[2].split()[1])
        yield process
