"""The remote engine on servers that break on demand: who is asked, and who is asked next."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import httpx
import pytest

from extracot_server.engine.base import (
    AnswerFormat,
    Engine,
    EngineBusyError,
    EngineDeadError,
    EngineError,
    EngineRequestError,
    EngineStartError,
    SamplingParams,
)
from extracot_server.engine.pace import Pace
from extracot_server.engine.scripted.engine import ScriptedEngine
from tests.server.engine.remote_fakes import (
    COMPLETIONS,
    GENERATE,
    FakeUpstream,
    Faults,
    remote,
    scripted,
    upstreams,
)
from tests.server.engine.remote_requests import SLOW, ask, running, until
from tests.server.engine.running import run

pytestmark = pytest.mark.anyio
LEVELS = tuple(ScriptedEngine().tokenizer.get_added_vocab().values())[3:8]
SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}


REQUESTS = {
    "plain": ask(),
    "long": ask(max_tokens=10_000),
    "sampled": ask(
        sampling=SamplingParams(temperature=0.7, top_p=0.9, top_k=5, min_p=0.1, seed=11)
    ),
    "penalties": ask(sampling=SamplingParams(presence_penalty=0.5, repetition_penalty=1.1)),
    "stop ids": ask(stop_token_ids=(ScriptedEngine().tokenizer.get_vocab()["</think>"],)),
    "biased": ask(sampling=SamplingParams(logit_bias={300: -100.0, 301: 5.0})),
    "no end": ask(max_tokens=200, sampling=SamplingParams(ignore_eos=True, min_tokens=10)),
    "logprobs 0": ask(sampling=SamplingParams(logprobs=0)),
    "logprobs 3": ask(sampling=SamplingParams(logprobs=3)),
    "logprobs 20": ask(max_tokens=3, sampling=SamplingParams(logprobs=20)),
    "allowed": ask(max_tokens=1, allowed_token_ids=LEVELS, sampling=SamplingParams(seed=4)),
    "json": ask(answer_format=AnswerFormat("json_object")),
    "schema": ask(answer_format=AnswerFormat("json_schema", SCHEMA), priority=-3),
}


@pytest.mark.parametrize("scale_out", [True, False], ids=["generate", "completions"])
@pytest.mark.parametrize("hold", [0.0, 0.002], ids=["keeps up", "falls behind"])
async def test_the_same_as_the_engine_behind_it(scale_out: bool, hold: float) -> None:
    direct, pace = ScriptedEngine(), Pace()
    pace.hold = hold
    await direct.start()
    fake = FakeUpstream(scale_out=scale_out, engine=scripted(tokens_per_delta=3))
    async with upstreams(fake), remote(fake) as engine:
        for name, request in REQUESTS.items():
            expected = await run(direct, request)
            got = await run(engine, replace(request, pace=pace))
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


class FailingTransport(httpx.AsyncHTTPTransport):
    """Requests to paths with ``part`` in them fail the next ``times`` times, before any reply."""

    def __init__(self, part: str, error: Exception) -> None:
        super().__init__()
        self.part, self.error, self.times = part, error, 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.part in request.url.path and self.times:
            self.times -= 1
            raise self.error
        return await super().handle_async_request(request)


BREAK = httpx.RemoteProtocolError("Server disconnected without sending a response.")


@pytest.mark.parametrize("error", [httpx.ConnectTimeout(""), BREAK], ids=["late", "closed"])
async def test_a_connection_that_fails_once_is_no_death(error: Exception) -> None:
    # All do at once where this process stood still, or kept connections were about to be closed.
    fake, transport = FakeUpstream(), FailingTransport("/generate", error)
    async with upstreams(fake), remote(fake, transport=transport) as engine:
        transport.times = 1
        assert (await run(engine, ask("once"))).finish
        assert fake.served == 1
        transport.times = 2
        with pytest.raises(EngineError, match=r"cannot be reached|connection broke") as caught:
            await run(engine, ask("twice"))
        dead = isinstance(error, httpx.ConnectTimeout)
        assert isinstance(caught.value, EngineDeadError) == dead


async def test_a_health_check_on_a_connection_being_closed_is_asked_again() -> None:
    fake, transport = FakeUpstream(), FailingTransport("/health", BREAK)
    async with upstreams(fake), remote(fake, transport=transport) as engine:
        (upstream,) = engine._upstreams
        transport.times = 1
        await engine._examine(upstream)
        assert upstream.down is None and transport.times == 0
        transport.times = 2
        await engine._examine(upstream)
        assert "connection broke" in (upstream.down or "")


async def test_every_upstream_is_tried_once_and_a_living_one_stays() -> None:
    faults = Faults(answer=(500, {"error": {"message": "boom"}}))
    fakes = [FakeUpstream(faults=faults) for _ in range(3)]
    async with upstreams(*fakes), remote(*fakes) as engine:
        with pytest.raises(EngineError, match="boom") as caught:
            await run(engine, ask())
        assert not isinstance(caught.value, EngineDeadError)
        assert [fake.served for fake in fakes] == [1, 1, 1]
        await engine.check_health()


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
            await until(lambda: len(fake.aborted) == 1)
            sent = fake.bodies[0][1]["request_id"]
            assert sent.startswith("gone-") and fake.aborted == [f"generate-tokens-{sent}"]


async def test_two_requests_of_one_name_are_two_at_the_server() -> None:
    # A client chooses its own x-request-id; an abort of the one must not end the other.
    fake = FakeUpstream(engine=scripted(**SLOW))
    async with upstreams(fake), remote(fake) as engine:
        streams = [engine.generate(ask("same", 4000)) for _ in range(2)]
        for stream in streams:
            await anext(stream)
        names = [body["request_id"] for _, body in fake.bodies]
        assert len(set(names)) == 2
        await streams[0].aclose()
        await until(lambda: fake.aborted == [f"generate-tokens-{names[0]}"])
        await anext(streams[1])
        await streams[1].aclose()


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


@pytest.mark.parametrize(
    ("status", "retry_after", "wait"),
    [(503, "7", 7), (429, "7", 7), (429, None, 1), (429, "soon", 1), (503, "0", 1)],
)
async def test_a_busy_upstream_is_passed_over_and_not_taken_out(
    status: int, retry_after: str | None, wait: int
) -> None:
    busy = {"answer": (status, {"error": {"message": "full"}}), "retry_after": retry_after}
    a, b = FakeUpstream(faults=Faults(**busy)), FakeUpstream()  # type: ignore[arg-type]
    async with upstreams(a, b), remote(a, b) as engine:
        for index in range(2):
            assert (await run(engine, ask(f"r{index}", 3))).finish == "length"
        assert (a.served > 0, b.served) == (True, 2)
        assert [(one.url, one.down) for one in engine.upstreams()] == [(a.url, None), (b.url, None)]
        b.faults.answer, b.faults.retry_after = a.faults.answer, "9"
        with pytest.raises(EngineBusyError, match="busy") as caught:
            await run(engine, ask("r9", 3))
        assert caught.value.retry_after == wait
        await engine.check_health()


async def test_one_busy_and_one_broken_upstream_are_busy() -> None:
    a = FakeUpstream(faults=Faults(answer=(429, ""), retry_after="4"))
    b = FakeUpstream(faults=Faults(answer=(500, "")))
    async with upstreams(a, b), remote(a, b) as engine:
        for index in range(2):
            with pytest.raises(EngineBusyError) as caught:
                await run(engine, ask(f"r{index}"))
            assert caught.value.retry_after == 4
