"""What tests of the remote engine share: a request, a reader of its own, waiting."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from extracot_server.engine.base import Engine, GenerationDelta, GenerationRequest
from extracot_server.engine.scripted.engine import ScriptedEngine

PROMPT = tuple(ScriptedEngine().tokenizer.encode("What is 12 * 3 + 4?"))
SLOW = {"token_interval_seconds": 0.02, "never_close": True}


def ask(name: str = "r1", max_tokens: int = 40, **more: Any) -> GenerationRequest:
    """A request that the scripted engine answers."""
    return GenerationRequest(name, more.pop("token_ids", PROMPT), max_tokens, **more)


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that comes by itself."""
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(engine: Engine, request: GenerationRequest) -> AsyncIterator[list[Any]]:
    """A request read by a task of its own; the list grows with its deltas."""
    seen: list[GenerationDelta] = []

    async def read() -> None:
        async for delta in engine.generate(request):
            seen.append(delta)

    task = asyncio.create_task(read())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
