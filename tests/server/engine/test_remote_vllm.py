"""The remote engine on two real vLLM servers: equal to vLLM in our process, spread, lost, left.

One server has ``--enable-scale-out`` and the other has not, so both protocols are real; the other
has an adapter. The model is tiny and random. What becomes of lost servers is the next file's.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from extracot_server.app import create_app
from extracot_server.config.settings import Settings
from extracot_server.engine.base import (
    SCHEMA_FIELD,
    AnswerFormat,
    Engine,
    EngineRequestError,
    GenerationRequest,
    SamplingParams,
)
from tests.fixtures.token_checkpoint import NEW_TOKENS
from tests.server.engine.running import Run, run
from tests.server.engine.vllm_servers import ENDLESS, Server, ask, remote
from tests.server.live import Live

# vLLM and its libraries warn about their own code.
pytestmark = [pytest.mark.anyio, pytest.mark.vllm, pytest.mark.filterwarnings("default")]

SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["answer"],
    "additionalProperties": False,
}


@dataclass
class Expected:
    """What vLLM in our own process says."""

    runs: dict[str, Run]
    chats: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def expected(token_vllm: Live) -> Expected:
    """Asked on its loop."""
    engine = token_vllm.engine

    async def asked() -> Expected:
        runs = {name: await run(engine, request) for name, request in requests(engine).items()}
        return Expected(runs, await chats(token_vllm.app))

    found: Expected = token_vllm.run(asked())
    return found


@pytest.fixture(scope="module")
def servers(upstreams: list[Server]) -> list[Server]:
    """The two that tests share."""
    return upstreams


def requests(engine: Engine) -> dict[str, GenerationRequest]:
    """Requests whose replies are determined."""
    levels = tuple(engine.tokenizer.get_added_vocab()[token] for token in NEW_TOKENS[:5])
    some = tuple(range(40, 60))
    asked: dict[str, dict[str, Any]] = {
        "greedy": {"max_tokens": 80},
        "whole context": {"max_tokens": 10_000, "sampling": ENDLESS},
        "stop id": {"stop_token_ids": some},
        "at least": {"max_tokens": 60, "sampling": SamplingParams(temperature=0.0, min_tokens=40)},
        "biased": {"sampling": SamplingParams(temperature=0.0, logit_bias={i: 6.0 for i in some})},
        "penalties": {"sampling": SamplingParams(temperature=0.0, frequency_penalty=1.5)},
        "repetition": {"sampling": SamplingParams(temperature=0.0, repetition_penalty=1.5)},
        "logprobs": {"sampling": SamplingParams(temperature=0.0, logprobs=0), "max_tokens": 3},
        "unlikely": {"sampling": SamplingParams(temperature=2.0, logprobs=3, top_k=-1, seed=5)},
        "defaults": {"sampling": SamplingParams(seed=7)},
        "auto": {"max_tokens": 1, "allowed_token_ids": levels},
        "json": {"answer_format": AnswerFormat("json_object"), "max_tokens": 40},
        "schema": {"answer_format": AnswerFormat("json_schema", SCHEMA), "max_tokens": 40},
        "priority": {"priority": 3, "max_tokens": 2},
    }
    return {name: ask(engine, name, **changes) for name, changes in asked.items()}


CHATS: dict[str, dict[str, Any]] = {
    "level": {"budget": 0.4, "max_tokens": 60},
    "auto": {"budget": "auto", "max_tokens": 60},
    "none": {"budget": "none", "max_tokens": 20, "logprobs": True, "top_logprobs": 2},
    "cap": {"budget": {"ratio": 1.0, "max_reasoning_tokens": 2}, "ignore_eos": True},
    "answer in JSON": {
        "budget": {"ratio": 0.2, "max_reasoning_tokens": 9},
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": SCHEMA},
        },
    },
}


async def chats(app: Any) -> dict[str, dict[str, Any]]:
    """Replies of the whole server at temperature 0, without what differs from call to call."""
    replies = {}
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app", timeout=300) as client:
        for name, fields in CHATS.items():
            turn = [{"role": "user", "content": "What is 12 * 3 + 4?"}]
            common = {"model": "model", "temperature": 0, "max_tokens": 40}
            body = {"messages": turn, **common, **fields}
            response = await client.post("/v1/chat/completions", json=body)
            assert response.status_code == 200, response.text
            reply = response.json()
            assert reply.pop("id") and reply.pop("created") and reply.pop("model")
            reply["usage"].pop("prompt_tokens_details", None)  # each engine has a cache of its own
            replies[name] = reply
    return replies


def same(ours: Any, theirs: Any) -> bool:
    """Equal, but for the last digits of numbers that arithmetic gave."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, float):
        return ours == pytest.approx(theirs, abs=1e-3)
    return bool(ours == theirs)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("which", [0, 1], ids=["generate", "completions"])
async def test_equal_to_vllm_in_our_process(
    which: int, servers: list[Server], expected: Expected
) -> None:
    async with remote(servers[which]) as engine:
        asked = requests(engine)
        # Alone: in one step with it, vLLM's V1 runner loses the competitors of other requests.
        auto = asked.pop("auto")
        together = await asyncio.gather(*(run(engine, request) for request in asked.values()))
        replies = {**dict(zip(asked, together, strict=True)), "auto": await run(engine, auto)}
        for name, got in replies.items():
            wanted = expected.runs[name]
            assert (got.ids, got.finish) == (wanted.ids, wanted.finish), name
            for ours, theirs in zip(got.logprobs, wanted.logprobs, strict=True):
                assert (ours.token_id, len(ours.top)) == (theirs.token_id, len(theirs.top)), name
                assert same(ours.logprob, theirs.logprob), name
                assert same(dict(ours.top), dict(theirs.top)), name
        assert engine._upstreams[0].scale_out is (which == 0)
        wrong = AnswerFormat("json_schema", {"type": "nonsense"})
        with pytest.raises(EngineRequestError) as caught:
            await run(engine, ask(engine, answer_format=wrong))
        assert caught.value.param == "response_format"
        await engine.check_format(AnswerFormat("json_schema", SCHEMA))
        with pytest.raises(EngineRequestError) as caught:
            await engine.check_format(wrong)
        assert caught.value.param == SCHEMA_FIELD
        await engine.check_health()


@pytest.mark.parametrize("which", [0, 1], ids=["generate", "completions"])
async def test_what_a_prompt_finds_in_the_cache_is_told(which: int, servers: list[Server]) -> None:
    found = []
    async with remote(servers[which]) as engine:
        asked = ask(engine, max_tokens=2)
        longer = replace(asked, token_ids=asked.token_ids * 12)
        for name in ("a", "b"):
            deltas = [one async for one in engine.generate(replace(longer, request_id=name))]
            found.append(deltas[-1].cached_tokens)
    first, second = found
    assert first is not None and second is not None
    assert first <= len(longer.token_ids) / 2 < second < len(longer.token_ids)


async def test_the_server_on_two_upstreams_replies_as_in_our_process(
    servers: list[Server], expected: Expected
) -> None:
    settings = Settings(engine="remote", upstream=[server.url for server in servers])
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        service = app.state.extracot.services["model"]
        assert service.model.mode == "token", "the card beside the tokenizer is found"
        assert service.model.runtime.engine.info.kind == "remote"
        for _ in range(2):  # each upstream's turn
            replies = await chats(app)
            for name, reply in replies.items():
                assert same(reply, expected.chats[name]), (name, reply, expected.chats[name])
        capped = replies["cap"]["budget"]
        assert capped["cap_hit"] and capped["reasoning_tokens"] == 2


async def whole(server: Server) -> float:
    """Replies that reached their length so far: once a later request has tokens, vLLM has counted
    every earlier one. That later one stops, so that it is not counted itself."""
    async with remote(server) as engine:
        end = next(iter(engine.info.eos_token_ids))
        stops = SamplingParams(temperature=0.0, logit_bias={end: 100.0}, min_tokens=3)
        assert (await run(engine, ask(engine, "marker", sampling=stops))).finish == "stop"
        return await server.metric("vllm:request_success_total", finished_reason="length")


async def test_requests_spread_over_both(servers: list[Server]) -> None:
    before = [await whole(server) for server in servers]
    async with remote(*servers) as engine:
        sent = [ask(engine, f"s{index}", sampling=ENDLESS) for index in range(12)]
        replies = await asyncio.gather(*(run(engine, request) for request in sent))
        assert {reply.finish for reply in replies} == {"length"}
        assert len({reply.ids for reply in replies}) == 1
    after = [await whole(server) for server in servers]
    assert [now - then for now, then in zip(after, before, strict=True)] == [6, 6]


@pytest.mark.parametrize("which", [0, 1], ids=["generate", "completions"])
async def test_leaving_ends_the_request_at_the_server(which: int, servers: list[Server]) -> None:
    server = servers[which]
    async with remote(server) as engine:

        async def leave() -> float:
            """Begin four replies, leave, wait until the server is idle: how many became whole."""
            before = await whole(server)
            asked = [ask(engine, f"l{i}", 4000, sampling=ENDLESS) for i in range(4)]
            streams = [engine.generate(request) for request in asked]
            for stream in streams:
                await anext(stream)
            assert await engine.in_flight() == 4
            for stream in streams:
                await stream.aclose()
            async with asyncio.timeout(120):
                while await server.metric("vllm:num_requests_running"):
                    await asyncio.sleep(0.02)
            return await whole(server) - before

        # A request that goes on after it was left becomes whole, each time anew. A machine that
        # holds us up for seconds lets one end before it is left, but not in every one of five.
        found = [await leave()]
        while found[-1] and len(found) < 5:
            found.append(await leave())
        assert found[-1] == 0, f"cut, not finished: {found}"
        assert await engine.in_flight() == 0
