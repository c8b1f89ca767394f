"""More requests than can be served: who is let in is served in bounded time, the rest at once told.

Time is counted in requests here, not in seconds: how many others were served before one's turn.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator

import httpx

from extracot_server.engine.base import GenerationDelta, GenerationRequest
from extracot_server.engine.scripted.engine import ScriptedBehaviour, ScriptedEngine
from tests.server.live import serve, user

RUNNING, QUEUED, SENT = 4, 12, 300
CHAT = "/v1/chat/completions"


class CountingEngine(ScriptedEngine):
    """Notes how many run at once, and in which order they begin."""

    def __init__(self) -> None:
        super().__init__(ScriptedBehaviour(token_interval_seconds=0.001))
        self.now = self.most = 0
        self.begun: list[str] = []

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta, None]:
        self.now += 1
        self.most = max(self.most, self.now)
        self.begun.append(request.request_id.rsplit("-", 2)[0])
        stream = super().generate(request)
        try:
            async for delta in stream:
                yield delta
        finally:
            await stream.aclose()
            self.now -= 1


async def flood(url: str) -> tuple[list[httpx.Response], list[str]]:
    """All at once; the replies, and the names in the order they were sent in."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=120) as client:
        names = [f"r{number}" for number in range(SENT)]
        body = {"messages": user(), "max_tokens": 20}
        asking = [client.post(CHAT, json=body, headers={"x-request-id": name}) for name in names]
        return list(await asyncio.gather(*asking)), names


def test_past_capacity_and_back() -> None:
    engine = CountingEngine()
    with serve(on=engine, max_running=RUNNING, max_queued=QUEUED) as live:
        replies, names = asyncio.run(flood(live.url))
        statuses = Counter(reply.status_code for reply in replies)
        assert set(statuses) == {200, 503}
        assert statuses[200] >= RUNNING + QUEUED
        for reply in replies:
            if reply.status_code == 503:  # at once, with when to come back
                assert reply.json()["error"]["code"] == "queue_full"
                assert 1 <= int(reply.headers["retry-after"]) <= 60
            else:  # whole: neither cut short nor empty
                assert reply.json()["usage"]["completion_tokens"] == 20
        assert engine.most == RUNNING  # never more, and as many as may
        # No refused one ever reached the engine, and nobody was overtaken by more than could wait
        # before it: the latency of who is let in is bounded by the queue, not by the flood.
        served = {n for n, reply in zip(names, replies, strict=True) if reply.status_code == 200}
        assert set(engine.begun) == served
        assert live.metric_sum("extracot_queue_seconds_count") == statuses[200]
        assert live.metric_sum("extracot_rejected_total", reason="queue_full") == statuses[503]
        assert live.metric_sum("extracot_requests_queued") == 0
        # And afterwards everything is as before.
        assert live.in_flight() == 0
        assert live.post(max_tokens=5).status_code == 200
        again, _ = asyncio.run(flood(live.url))
        assert Counter(reply.status_code for reply in again)[200] >= RUNNING + QUEUED


class HeldEngine(CountingEngine):
    """Serves nobody before it is let go."""

    free = False

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta, None]:
        while not self.free:
            await asyncio.sleep(0.002)
        stream = super().generate(request)
        try:
            async for delta in stream:
                yield delta
        finally:
            await stream.aclose()


def test_who_is_let_in_waits_for_those_before_it_only() -> None:
    """However many come meanwhile: the last one to be let in is the last of that many to begin."""
    engine = HeldEngine()
    with serve(on=engine, max_running=RUNNING, max_queued=QUEUED) as live:

        async def ask_in_turn() -> list[httpx.Response]:
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(base_url=live.url, limits=limits, timeout=120) as client:
                asking = []
                for number in range(RUNNING + QUEUED):
                    sent = json.dumps({"messages": user(), "max_tokens": 3})
                    headers = {"x-request-id": f"r{number}"}
                    asking.append(
                        asyncio.create_task(client.post(CHAT, content=sent, headers=headers))
                    )
                    state = live.app.state.extracot
                    scheduler = state.engines[0].queue.scheduler
                    while scheduler.running + scheduler.queued <= number:
                        assert not asking[-1].done(), asking[-1].result().text
                        await asyncio.sleep(0.002)
                refused = await asyncio.gather(
                    *(client.post(CHAT, json={"messages": user()}) for _ in range(100))
                )
                assert {reply.status_code for reply in refused} == {503}
                engine.free = True
                return list(await asyncio.gather(*asking))

        replies = asyncio.run(ask_in_turn())
        assert {reply.status_code for reply in replies} == {200}
        first = dict.fromkeys(engine.begun)  # an answer after a cut block is a request of its own
        order = [int(name.removeprefix("r")) for name in first]
        assert sorted(order[:RUNNING]) == list(range(RUNNING))
        assert order[RUNNING:] == list(range(RUNNING, RUNNING + QUEUED))
