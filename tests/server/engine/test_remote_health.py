"""The remote engine's upstreams: which are met, left out, taken in again, and how it closes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from extracot_server.engine.base import (
    EngineDeadError,
    EngineError,
    EngineStartError,
    SamplingParams,
)
from extracot_server.engine.remote.engine import RemoteEngine
from tests.server.engine.remote_fakes import (
    COMPLETIONS,
    GENERATE,
    FakeUpstream,
    Faults,
    listening,
    load_scripted,
    remote,
    scripted,
    upstreams,
)
from tests.server.engine.remote_requests import PROMPT, SLOW, ask, until
from tests.server.engine.running import run

pytestmark = pytest.mark.anyio


async def test_an_unhealthy_upstream_is_left_alone_until_it_recovers() -> None:
    a, b = FakeUpstream(), FakeUpstream()
    async with upstreams(a, b), remote(a, b, health_seconds=0.05) as engine:
        a.faults.health = 503
        await until(lambda: engine._upstreams[0].down is not None)
        for index in range(4):
            await run(engine, ask(f"r{index}", 1))
        assert (a.served, b.served) == (0, 4)
        b.faults.health = 503
        await until(lambda: engine._upstreams[1].down is not None)
        with pytest.raises(EngineDeadError):
            await engine.check_health()
        a.faults.health = 200
        await until(lambda: engine._upstreams[0].down is None)
        await engine.check_health()
        await run(engine, ask("back", 1))
        assert a.served == 1


async def test_a_killed_upstream_is_used_again_when_it_is_back() -> None:
    a, b = FakeUpstream(), FakeUpstream()
    async with listening(b):
        async with listening(a):
            port = int(a.url.rpartition(":")[2])
            engine = RemoteEngine([a.url, b.url], health_seconds=0.05, load_model=load_scripted)
            await engine.start()
        try:
            for index in range(4):
                await run(engine, ask(f"r{index}", 1))
            assert (a.served, b.served) == (0, 4)
            again = FakeUpstream(scale_out=False)
            async with listening(again, port):
                await until(lambda: engine._upstreams[0].down is None)
                await run(engine, ask("back", 1))
                await run(engine, ask("back2", 1))
                assert again.served == 2, "its flags are found out anew"
                assert [path for path, _ in again.bodies] == [GENERATE, COMPLETIONS]
        finally:
            await engine.close(0)


async def test_a_health_check_that_hangs_once_is_forgiven_and_twice_moves_waiting_requests() -> (
    None
):
    a, b = FakeUpstream(faults=Faults(stall=True)), FakeUpstream()
    async with upstreams(a, b), remote(a, b) as engine:
        first = engine._upstreams[0]
        a.faults.health_hangs = True
        await engine._examine(first)
        assert first.down is None
        task = asyncio.create_task(run(engine, ask()))
        await until(lambda: a.served == 1)
        await engine._examine(first)
        assert first.down is not None
        assert (await task).finish is not None and b.served == 1


async def test_a_slow_upstream_is_no_broken_one() -> None:
    fake = FakeUpstream(engine=scripted(token_interval_seconds=0.1, tokens_per_delta=2))
    async with upstreams(fake), remote(fake, silence=1.0) as engine:
        reply = await run(engine, ask(max_tokens=12))
        assert len(reply.ids) == 12 and reply.deltas >= 6


async def test_it_starts_with_what_is_there_and_takes_the_rest_in_later() -> None:
    a, b = FakeUpstream(), FakeUpstream(faults=Faults(health=503))
    async with upstreams(a, b), remote(a, b, health_seconds=0.05) as engine:
        await run(engine, ask("r1", 1))
        await run(engine, ask("r2", 1))
        assert (a.served, b.served) == (2, 0)
        b.faults.health = 200
        await until(lambda: engine._upstreams[1].down is None)
        await run(engine, ask("r3", 1))
        assert b.served == 1


async def test_the_smallest_context_holds() -> None:
    a, b = FakeUpstream(max_model_len=512), FakeUpstream(max_model_len=300)
    async with upstreams(a, b), remote(a, b) as engine:
        assert engine.info.max_model_len == 300
        for index in range(2):
            reply = await run(
                engine, ask(f"r{index}", 10_000, sampling=SamplingParams(ignore_eos=True))
            )
            assert reply.finish == "length" and len(reply.ids) == 300 - len(PROMPT)


@pytest.mark.parametrize(
    ("changes", "settings", "words"),
    [
        ({"model": "other"}, {}, ["serves other, not served"]),
        ({"other_tokenizer": True}, {}, ["another tokenizer", "--tokenizer"]),
        ({"api_key": "k"}, {}, ["refuses the API key"]),
        ({"moved": "https://b/v1/models"}, {}, ["redirects to https://b/v1/models (status 301)"]),
        ({"moved": "http://[no"}, {}, ["redirects to no address (status 301)"]),
        ({}, {"model": "absent"}, ["serves served, not absent"]),
    ],
)
async def test_upstreams_that_serve_something_else_end_the_start(
    changes: dict[str, Any], settings: dict[str, Any], words: list[str]
) -> None:
    a, b = FakeUpstream(), FakeUpstream(**changes)
    async with upstreams(a, b):
        with pytest.raises(EngineStartError) as caught:
            async with remote(a, b, **settings):
                pass
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


async def test_a_wrong_upstream_that_comes_later_stays_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    a = FakeUpstream()
    b = FakeUpstream(faults=Faults(health=503), max_model_len=100)
    async with upstreams(a, b), remote(a, b) as engine:
        b.faults.health = 200
        await engine._examine(engine._upstreams[1])
        assert "context of 100" in (engine._upstreams[1].down or "")
        assert "less than the 4096" in caplog.text
        await run(engine, ask())
        assert b.served == 0


async def test_no_upstream_at_the_start_is_one_line() -> None:
    fake = FakeUpstream()
    async with listening(fake):
        pass
    engine = RemoteEngine([fake.url, "http://127.0.0.1:9"], load_model=load_scripted)
    with pytest.raises(EngineStartError) as caught:
        await engine.start()
    text = str(caught.value)
    assert fake.url in text and "cannot be reached" in text and "\n" not in text
    with pytest.raises(EngineDeadError):
        await engine.check_health()


async def test_close_waits_for_what_runs_then_drops_it() -> None:
    fake = FakeUpstream(engine=scripted(token_interval_seconds=0.01))
    async with upstreams(fake):
        async with remote(fake) as engine:
            task = asyncio.create_task(run(engine, ask(max_tokens=20)))
            await until(lambda: fake.engine._running == 1)
            await engine.close(20)
            assert len((await task).ids) == 20
        endless = FakeUpstream(engine=scripted(**SLOW))
        async with upstreams(endless), remote(endless) as engine:
            task = asyncio.create_task(run(engine, ask(max_tokens=4000)))
            await until(lambda: endless.engine._running == 1)
            await engine.close(0.05)
            with pytest.raises(EngineDeadError, match="closed"):
                await task
            await until(lambda: endless.engine._running == 0)
            await engine.close(0)
            with pytest.raises(EngineDeadError, match="closed"):
                await run(engine, ask())
            with pytest.raises(EngineDeadError):
                await engine.check_health()


async def test_many_at_once_with_leavers_and_a_death_leave_nothing_behind() -> None:
    fakes = [FakeUpstream(engine=scripted(token_interval_seconds=0.002)) for _ in range(3)]

    async def one(index: int) -> str:
        stream = engine.generate(ask(f"r{index}", 30))
        count = 0
        try:
            async for _ in stream:
                count += 1
                if index % 3 == 0 and count == 5:
                    return "left"
            return "whole"
        except EngineError:
            return "lost"
        finally:
            await stream.aclose()

    # On a busy machine 60 at once may keep a healthy server from answering within a second.
    async with upstreams(*fakes), remote(*fakes, connect=20.0, health=20.0) as engine:
        tasks = [asyncio.create_task(one(index)) for index in range(60)]
        await until(lambda: fakes[1].engine._running > 5)
        await fakes[1].kill()
        ends = await asyncio.gather(*tasks)
        assert ends.count("left") + ends.count("whole") >= 38
        assert await engine.in_flight() == 0
        await until(lambda: all(fake.engine._running == 0 for fake in fakes))
        await engine.check_health()
