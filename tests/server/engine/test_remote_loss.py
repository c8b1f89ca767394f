"""The whole server when one of its upstreams is lost under load; with real vLLM elsewhere."""

from __future__ import annotations

import contextlib

import pytest

from extracot_server.engine.remote.engine import RemoteEngine
from tests.server.engine.loss import lose_and_return, served
from tests.server.engine.remote_fakes import (
    FakeUpstream,
    listening,
    load_scripted,
    scripted,
    upstreams,
)

pytestmark = pytest.mark.anyio


async def test_one_killed_in_mid_load_and_back_again() -> None:
    a, b, again = (FakeUpstream(engine=scripted(token_interval_seconds=0.02)) for _ in range(3))
    async with upstreams(a, b), contextlib.AsyncExitStack() as stack:
        urls = [a.url, b.url]
        engine = RemoteEngine(urls, load_model=load_scripted, health_seconds=0.3)

        async def revive() -> None:
            port = int(urls[0].rpartition(":")[2])
            await stack.enter_async_context(listening(again, port))

        async with served(engine, urls, card="none") as live:
            await lose_and_return(live, "served", urls[0], a.kill, revive)
            assert again.served >= 1, "it serves again"
