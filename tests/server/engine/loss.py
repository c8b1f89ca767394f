"""One of two upstreams lost under load and back again, as clients of the whole server see it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import httpx

from extracot_server.engine.remote.engine import RemoteEngine
from tests.server.engine.vllm_servers import START_SECONDS
from tests.server.live import Live, serve, user


@dataclass
class Reading:
    """Streamed chats being read in the background, one after the other until one is lost."""

    events: list[str] = field(default_factory=list)
    whole: int = 0
    """How many came to their end."""
    error: dict[str, Any] | None = None
    """What the last one ended in."""

    async def read(self, client: httpx.AsyncClient, model: str, tokens: int) -> None:
        """To their end; every one comes whole, ``tokens`` long, or ends in an error event."""
        body = {"model": model, "messages": user(), "stream": True, "max_tokens": tokens}
        body |= {"ignore_eos": True, "budget": "native"}
        while self.error is None:
            async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                assert response.status_code == 200
                async for line in response.aiter_lines():
                    if line.startswith("data: "):
                        self.events.append(line.removeprefix("data: "))
            assert self.events[-1] == "[DONE]"
            last = json.loads(self.events[-2])
            self.error = last.get("error")
            if self.error is None:
                assert last["choices"][0]["finish_reason"] == "length", last
                self.whole += 1


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(START_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def served(engine: RemoteEngine, urls: list[str], **settings: Any) -> AsyncIterator[Live]:
    """The server on this engine, in a thread of its own; ours goes on while it starts and ends."""
    own = {"engine": "remote", "upstream": urls, "health_interval_seconds": 0.3, **settings}
    context = serve(on=engine, **own)
    live = await asyncio.to_thread(context.__enter__)
    try:
        yield live
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)


async def lose_and_return(
    live: Live,
    model: str,
    url: str,
    kill: Callable[[], Awaitable[None]],
    revive: Callable[[], Awaitable[None]],
    *,
    tokens: int = 3900,
    streams: int = 6,
) -> None:
    """Kill the upstream at ``url`` in mid-load and bring it back; everything promised is checked.

    Running replies of the lost one end in a clear error event, the others go on; new requests are
    served; ``/ready`` stays green all the time; what is back is used again. Of the ``streams``,
    either upstream gets half. Replies of ``tokens`` must take longer than the way from their first
    token to the kill; nothing waits for their end.
    """
    readiness: list[int] = []
    up = {"model": model, "upstream": url}
    load = [Reading() for _ in range(streams)]
    async with httpx.AsyncClient(base_url=live.url, timeout=300) as client:

        async def look() -> None:
            while True:
                readiness.append((await client.get("/ready")).status_code)
                await asyncio.sleep(0.05)

        async def answers(count: int) -> None:
            short = {"model": model, "messages": user(), "max_tokens": 8}
            sent = [client.post("/v1/chat/completions", json=short) for _ in range(count)]
            assert [r.status_code for r in await asyncio.gather(*sent)] == [200] * count

        async def shown_as(value: float) -> None:
            async with asyncio.timeout(START_SECONDS):
                while (
                    await asyncio.to_thread(live.metric_sum, "extracot_upstream_up", **up) != value
                ):
                    await asyncio.sleep(0.1)

        async with _background(look()) as looking:
            async with _background(*(one.read(client, model, tokens) for one in load)) as tasks:
                await eventually(
                    lambda: (
                        any(task.done() for task in tasks)
                        or all(len(reading.events) > 1 for reading in load)
                    )
                )
                errors = [reading.error for reading in load]
                assert not any(task.done() for task in tasks), f"one was lost at once: {errors}"
                before = [reading.whole for reading in load]
                await kill()
                await eventually(
                    lambda: (
                        any(task.done() for task in tasks)
                        or all(one.whole > was for one, was in zip(load, before, strict=True))
                    )
                )
                _raise_from(tasks)
                assert any(reading.error for reading in load), "all were whole before the kill"
                await answers(4)
                seen = [len(reading.events) for reading in load]
                await eventually(lambda: _going_on(load, seen) >= streams / 2)
                await shown_as(0)
                _raise_from(tasks)
                lost = [reading.error for reading in load if reading.error]
                assert 1 <= len(lost) <= streams / 2, "those of the other one go on"
                _judge(lost)
            # The load has ended: it would only slow the start down.
            async with asyncio.timeout(START_SECONDS):
                while await asyncio.to_thread(live.in_flight):
                    await asyncio.sleep(0.02)
            await revive()
            await shown_as(1)
            _raise_from(looking)
        await answers(4)
        assert set(readiness) == {200} and len(readiness) > 5


@contextlib.asynccontextmanager
async def _background(
    *work: Coroutine[Any, Any, None],
) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Tasks that end with the block, however it ends."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _raise_from(tasks: list[asyncio.Task[None]]) -> None:
    """What went wrong in those that have ended."""
    for task in tasks:
        if task.done():
            task.result()


def _going_on(load: list[Reading], seen: list[int]) -> int:
    """How many have had more since, and no error."""
    pairs = zip(load, seen, strict=True)
    return sum(reading.error is None and len(reading.events) > had for reading, had in pairs)


def _judge(lost: list[dict[str, Any]]) -> None:
    for error in lost:
        assert "failed in the middle" in error["message"]
        assert (error["type"], error["code"]) == ("server_error", "reply_lost")
