"""The remote engine on servers that break on demand: who is asked, who is asked next, what ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from extracot_server.engine.base import (
    AnswerFormat,
    Engine,
    EngineDeadError,
    EngineError,
    EngineRequestError,
    EngineStartError,
    GenerationDelta,
    GenerationRequest,
    Sampling,
)
from extracot_server.engine.remote import RemoteEngine
from extracot_server.engine.scripted import ScriptedEngine
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
from tests.server.engine.running import run

pytestmark = pytest.mark.anyio
PROMPT = tuple(ScriptedEngine().tokenizer.encode("What is 12 * 3 + 4?"))
LEVELS = tuple(ScriptedEngine().tokenizer.get_added_vocab().values())[3:8]
SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
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


REQUESTS = {
    "plain": ask(),
    "long": ask(max_tokens=10_000),
    "sampled": ask(sampling=Sampling(temperature=0.7, top_p=0.9, top_k=5, min_p=0.1, seed=11)),
    "penalties": ask(sampling=Sampling(presence_penalty=0.5, repetition_penalty=1.1)),
    "stop ids": ask(stop_token_ids=(ScriptedEngine().tokenizer.get_vocab()["</think>"],)),
    "biased": ask(sampling=Sampling(logit_bias={300: -100.0, 301: 5.0})),
    "no end": ask(max_tokens=200, sampling=Sampling(ignore_eos=True, min_tokens=10)),
    "logprobs 0": ask(sampling=Sampling(logprobs=0)),
    "logprobs 3": ask(sampling=Sampling(logprobs=3)),
    "logprobs 20": ask(max_tokens=3, sampling=Sampling(logprobs=20)),
    "allowed": ask(max_tokens=1, allowed_token_ids=LEVELS, sampling=Sampling(seed=4)),
    "json": ask(answer_format=AnswerFormat("json_object")),
    "schema": ask(answer_format=AnswerFormat("json_schema", SCHEMA), priority=-3),
}


@pytest.mark.parametrize("scale_out", [True, False], ids=["generate", "completions"])
async def test_the_same_as_the_engine_behind_it(scale_out: bool) -> None:
    direct = ScriptedEngine()
    await direct.start()
    fake = FakeUpstream(scale_out=scale_out, engine=scripted(tokens_per_delta=3))
    async with upstreams(fake), remote(fake) as engine:
        for name, request in REQUESTS.items():
            expected, got = await run(direct, request), await run(engine, request)
            assert got.ids == expected.ids and got.finish == expected.finish, name
            assert len(got.logprobs) == len(expected.logprobs), name
            for ours, theirs in zip(got.logprobs, expected.logprobs, strict=True):
                assert (ours.token_id, ours.logprob) == (theirs.token_id, theirs.logprob), name
                assert sorted(ours.top) == sorted(theirs.top), name
                assert list(ours.top) == sorted(ours.top, key=lambda pair: -pair[1]), name
        assert await engine.in_flight() == 0
        paths = [path for path, _ in fake.bodies]
    if scale_out:
        assert set(paths) == {GENERATE}
    else:
        assert paths.count(GENERATE) == 1, "asked once, then remembered"
        assert paths.count(COMPLETIONS) == len(REQUESTS)


async def test_more_levels_than_logprobs_go_through_completions() -> None:
    many = tuple(range(300, 340))
    fake = FakeUpstream()
    async with upstreams(fake), remote(fake) as engine:
        reply = await run(engine, ask(max_tokens=1, allowed_token_ids=many))
        assert reply.ids[0] in many and len(reply.logprobs[0].top) == len(many)
        await run(engine, ask())
        assert [path for path, _ in fake.bodies] == [COMPLETIONS, GENERATE]


async def test_facts_come_from_the_upstream_and_the_tokenizer() -> None:
    fake = FakeUpstream(model="org/name", root="somewhere", max_model_len=1234)
    async with upstreams(fake), remote(fake) as engine:
        info = engine.info
        assert (info.kind, info.version, info.model) == ("remote", "0.32.0", "org/name")
        assert info.max_model_len == 1234
        assert info.vocab_size == len(fake.engine.tokenizer)
        assert engine.source == "somewhere", "what the upstream loaded"
        assert engine.tokenizer.encode("a b") == fake.engine.tokenizer.encode("a b")
        assert isinstance(engine, Engine)
    async with upstreams(fake), remote(fake, tokenizer_path="here", model="somewhere") as engine:
        assert engine.source == "here" and engine.info.model == "org/name"


async def test_requests_spread_evenly_and_to_the_least_busy() -> None:
    a, b, c = (FakeUpstream(engine=scripted(**SLOW)) for _ in range(3))
    async with upstreams(a, b, c), remote(a, b, c) as engine:
        for index in range(6):  # one after the other: turns
            await run(engine, ask(f"t{index}", 1))
        assert [fake.served for fake in (a, b, c)] == [2, 2, 2]
        async with contextlib.AsyncExitStack() as stack:
            for index in range(9):  # at once: shared out
                await stack.enter_async_context(running(engine, ask(f"s{index}", 4000)))
            await until(lambda: a.served + b.served + c.served == 15)
            assert [fake.served for fake in (a, b, c)] == [5, 5, 5]
            assert await engine.in_flight() == 9
        assert await engine.in_flight() == 0
        async with running(engine, ask("busy", 4000)):
            await until(lambda: a.served + b.served + c.served == 16)
            busy = next(fake for fake in (a, b, c) if fake.served == 6)
            for index in range(6):
                await run(engine, ask(f"u{index}", 1))
            assert busy.served == 6, "the others are less busy"


BREAKS: dict[str, Faults] = {
    "500": Faults(answer=(500, {"error": {"message": "boom", "code": 500}})),
    "502 of a proxy": Faults(answer=(502, "<html>bad gateway</html>")),
    "503": Faults(answer=(503, {"error": {"message": "engine dead"}})),
    "429": Faults(answer=(429, {"error": {"message": "busy"}})),
    "401": Faults(answer=(401, {"error": "Unauthorized"})),
    "error in the stream": Faults(error={"message": "boom", "code": 500}),
    "cut": Faults(cut=True),
    "shuts down": Faults(abort=True),
    "no vLLM": Faults(answer=(200, "hello")),
    "silent": Faults(stall=True),
}


@pytest.mark.parametrize("fault", BREAKS)
async def test_before_the_first_token_another_upstream_serves(fault: str) -> None:
    bad, good = FakeUpstream(faults=BREAKS[fault]), FakeUpstream()
    expected = await run(started(), ask())
    silence = 0.3 if fault == "silent" else 20.0
    async with upstreams(bad, good), remote(bad, good, silence=silence) as engine:
        for index in range(3):
            reply = await run(engine, ask(f"r{index}"))
            assert reply.ids == expected.ids and reply.finish == expected.finish
        assert bad.served >= 1 and good.served == 3
        await engine.check_health()
        assert await engine.in_flight() == 0


def started() -> ScriptedEngine:
    """A scripted engine that runs."""
    engine = ScriptedEngine()
    engine._down = None
    return engine


@pytest.mark.parametrize("fault", ["error in the stream", "cut", "shuts down", "silent"])
async def test_after_the_first_token_none_does(fault: str) -> None:
    broken = BREAKS[fault]
    faults = Faults(error=broken.error, cut=broken.cut, stall=broken.stall, abort=broken.abort)
    faults.after = 3
    a, b = FakeUpstream(faults=faults), FakeUpstream(faults=faults)
    silence = 0.3 if fault == "silent" else 20.0
    async with upstreams(a, b), remote(a, b, silence=silence) as engine:
        seen = 0
        with pytest.raises(EngineError) as caught:
            async for delta in engine.generate(ask()):
                seen += len(delta.token_ids)
        assert seen == 3 and a.served + b.served == 1
        assert not isinstance(caught.value, EngineDeadError | EngineRequestError)
        assert "in the middle" in str(caught.value)
        assert await engine.in_flight() == 0
        await engine.check_health()


@pytest.mark.parametrize("after", [0, 3])
async def test_the_last_upstream_that_dies_takes_the_engine_with_it(after: int) -> None:
    fake = FakeUpstream(faults=Faults(stall=True, after=after))
    async with upstreams(fake), remote(fake) as engine:
        with pytest.raises(EngineDeadError, match=fake.url):
            stream = engine.generate(ask())
            if after:
                await anext(stream)
            else:
                asyncio.get_running_loop().call_later(0.2, asyncio.create_task, fake.kill())
            if after:
                await fake.kill()
            async for _ in stream:
                pass
        with pytest.raises(EngineDeadError):
            await engine.check_health()
        with pytest.raises(EngineDeadError, match="no upstream is healthy"):
            await run(engine, ask("r2"))


async def test_every_upstream_is_tried_once_and_a_living_one_stays() -> None:
    faults = Faults(answer=(500, {"error": {"message": "boom"}}))
    fakes = [FakeUpstream(faults=faults) for _ in range(3)]
    async with upstreams(*fakes), remote(*fakes) as engine:
        with pytest.raises(EngineError, match="boom") as caught:
            await run(engine, ask())
        assert not isinstance(caught.value, EngineDeadError)
        assert [fake.served for fake in fakes] == [1, 1, 1]
        await engine.check_health()


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


@pytest.mark.parametrize("scale_out", [True, False], ids=["generate", "completions"])
@pytest.mark.parametrize("how", ["close", "cancel", "cancel while waiting"])
async def test_leaving_reaches_the_server(how: str, scale_out: bool) -> None:
    slow = scripted(**(SLOW if how != "cancel while waiting" else {"token_interval_seconds": 60}))
    fake = FakeUpstream(engine=slow, scale_out=scale_out)
    async with upstreams(fake), remote(fake) as engine:
        if how == "close":
            stream = engine.generate(ask("gone", 4000))
            await anext(stream)
            await stream.aclose()
        else:
            async with running(engine, ask("gone", 4000)) as seen:
                await until(lambda: bool(seen) or (how != "cancel" and slow._running == 1))
        assert await engine.in_flight() == 0
        await until(lambda: slow._running == 0)
        if scale_out and how != "cancel while waiting":
            await until(lambda: fake.aborted == ["generate-tokens-gone"])


async def test_a_finished_request_is_not_aborted_and_its_connection_is_used_again() -> None:
    fake = FakeUpstream()
    async with upstreams(fake), remote(fake) as engine:
        for index in range(5):
            await run(engine, ask(f"r{index}"))
        assert fake.server is not None
        assert len(fake.server.server_state.connections) <= 3
        assert fake.aborted == []


REFUSALS = {
    "body": ({"error": {"message": "temperature is odd", "param": "temperature"}}, "temperature"),
    "path": ({"error": {"message": "bad", "param": "sampling_params.logprobs"}}, "top_logprobs"),
    "fastapi": ({"detail": "no such thing"}, None),
    "old": ({"object": "error", "message": "Invalid json schema"}, "response_format"),
    "long": ({"error": {"message": "This model's maximum context length is 9"}}, "messages"),
    "text": ("<p>no</p>", None),
}


@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize("status", [400, 422])
async def test_a_refusal_is_the_requests_fault_and_is_not_tried_again(
    name: str, status: int
) -> None:
    content, param = REFUSALS[name]
    a, b = (FakeUpstream(faults=Faults(answer=(status, content))) for _ in range(2))
    async with upstreams(a, b), remote(a, b) as engine:
        with pytest.raises(EngineRequestError) as caught:
            await run(engine, ask())
        assert caught.value.param == param and str(caught.value)
        assert a.served + b.served == 1
        await engine.check_health()


async def test_a_refusal_in_the_stream_is_one_too() -> None:
    error = {"message": "structured_outputs is wrong", "param": "structured_outputs", "code": 400}
    fake = FakeUpstream(faults=Faults(error=error))
    async with upstreams(fake), remote(fake) as engine:
        with pytest.raises(EngineRequestError) as caught:
            await run(engine, ask())
        assert caught.value.param == "response_format"


async def test_each_upstream_gets_its_own_key() -> None:
    a, b = FakeUpstream(api_key="first"), FakeUpstream(api_key="second")
    async with upstreams(a, b):
        async with remote(a, b, api_key=["first", "second"]) as engine:
            await run(engine, ask("r1", 1))
            await run(engine, ask("r2", 1))
            assert (a.served, b.served) == (1, 1)
        with pytest.raises(EngineStartError, match="refuses the API key") as caught:
            async with remote(a, b, api_key="first"):
                pass
        assert b.url in str(caught.value) and "first" not in str(caught.value)


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
            reply = await run(engine, ask(f"r{index}", 10_000, sampling=Sampling(ignore_eos=True)))
            assert reply.finish == "length" and len(reply.ids) == 300 - len(PROMPT)


@pytest.mark.parametrize(
    ("changes", "settings", "words"),
    [
        ({"model": "other"}, {}, ["serves other, not served"]),
        ({"other_tokenizer": True}, {}, ["another tokenizer", "--tokenizer"]),
        ({"api_key": "k"}, {}, ["refuses the API key"]),
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

    async with upstreams(*fakes), remote(*fakes) as engine:
        tasks = [asyncio.create_task(one(index)) for index in range(60)]
        await until(lambda: fakes[1].engine._running > 5)
        await fakes[1].kill()
        ends = await asyncio.gather(*tasks)
        assert ends.count("left") + ends.count("whole") >= 38
        assert await engine.in_flight() == 0
        await until(lambda: all(fake.engine._running == 0 for fake in fakes))
        await engine.check_health()
