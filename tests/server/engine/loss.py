"""One of two upstreams lost under load and back again, as clients of the whole server see it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from extracot_server.engine.remote.engine import RemoteEngine
from tests.server.engine.vllm_servers import START_SECONDS
from tests.server.live import Live, serve, user

STREAMS = 6


@dataclass
class Reading:
    """Streamed chats being read in the background, one after the other until one is lost."""

    events: list[str] = field(default_factory=list)
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
    tokens: int = 3900,
) -> None:
    """Kill the upstream at ``url`` in mid-load and bring it back; everything promised is checked.

    Running replies of the lost one end in a clear error event, the others go on; new requests are
    served; ``/ready`` stays green all the time; what is back is used again. Replies of ``tokens``
    must take longer than the way from their first token to the kill.
    """
    readiness: list[int] = []
    up = {"model": model, "upstream": url}
    async with httpx.AsyncClient(base_url=live.url, timeout=300) as client:

        async def look() -> None:
            while True:
                readiness.append((await client.get("/ready")).status_code)
                await asyncio.sleep(0.05)

        async def answers(count: int) -> None:
            short = {"model": model, "messages": user(), "max_tokens": 8}
            sent = [client.post("/v1/chat/completions", json=short) for _ in range(count)]
            assert [r.status_code for r in await asyncio.gather(*sent)] == [200] * count

        async def shown_as(value: float, seconds: float) -> None:
            async with asyncio.timeout(seconds):
                while (
                    await asyncio.to_thread(live.metric_sum, "extracot_upstream_up", **up) != value
                ):
                    await asyncio.sleep(0.1)

        looking = asyncio.create_task(look())
        load = [Reading() for _ in range(STREAMS)]
        tasks = [asyncio.create_task(reading.read(client, model, tokens)) for reading in load]
        await eventually(
            lambda: (
                any(task.done() for task in tasks)
                or all(len(reading.events) > 1 for reading in load)
            )
        )
        for task in tasks:
            assert not task.done(), f"one was lost at once: {[one.error for one in load]} {task}"
        await kill()
        await eventually(lambda: any(reading.error for reading in load))
        await answers(4)
        _judge([reading.error for reading in load if reading.error])
        going_on = [(reading, len(reading.events)) for reading in load if not reading.error]
        await eventually(lambda: all(len(reading.events) > seen for reading, seen in going_on))
        await shown_as(0, 60)
        for task in tasks:  # it would only slow the start down
            task.cancel()
        await revive()
        await shown_as(1, START_SECONDS)
        looking.cancel()
        await asyncio.gather(*tasks, looking, return_exceptions=True)
        await answers(4)
        assert set(readiness) == {200} and len(readiness) > 5


def _judge(lost: list[dict[str, Any]]) -> None:
    assert 1 <= len(lost) <= STREAMS / 2, "those of the other one go on"
    for error in lost:
        assert "before it was complete" in error["message"]
        assert (error["type"], error["code"]) == ("server_error", "reply_lost")
