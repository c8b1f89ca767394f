"""The whole server on remote upstreams: replies as on the engine behind them, or says why not."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from extracot_server.app import create_app
from extracot_server.config.settings import Settings
from extracot_server.engine.base import Engine
from extracot_server.engine.remote import upstream
from extracot_server.engine.remote.engine import RemoteEngine
from extracot_server.engine.scripted.engine import (
    ScriptedBehaviour,
    ScriptedEngine,
    scripted_card,
)
from tests.server.engine.remote_fakes import (
    FakeUpstream,
    Faults,
    load_scripted,
    upstreams,
)

pytestmark = pytest.mark.anyio
CHATS: dict[str, dict[str, Any]] = {
    "level": {"budget": 0.4},
    "auto": {"budget": "auto"},
    "none": {"budget": "none", "logprobs": True, "top_logprobs": 2},
    "native": {"budget": "native", "stop": ["="]},
    "cap": {"budget": {"ratio": 1.0, "max_reasoning_tokens": 7}},
    "closing": {"budget": {"max_reasoning_tokens": 7, "closing": "Time is up."}},
    "json": {"budget": 0.2, "response_format": {"type": "json_object"}},
    "several": {"budget": "auto", "n": 3, "temperature": 1.0, "seed": 5},
}


async def replies(app: FastAPI, **more: Any) -> dict[str, dict[str, Any]]:
    """Every chat's reply, without what differs from call to call."""
    found = {}
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        for name, fields in CHATS.items():
            turn = [{"role": "user", "content": "What is 12 * 3 + 4?"}]
            body = {"messages": turn, "max_tokens": 200, **fields, **more}
            response = await client.post("/v1/chat/completions", json=body)
            assert response.status_code == 200, (name, response.text)
            reply = response.json()
            for key in ("id", "created", "model"):
                assert reply.pop(key)
            found[name] = reply
    return found


def settings(tmp: Any, **more: Any) -> Settings:
    scripted_card().save(tmp)
    return Settings(card=str(tmp), served_model_name="m", **more)


@pytest.mark.parametrize("scale_out", [True, False], ids=["generate", "completions"])
async def test_replies_are_those_of_the_engine_behind_it(tmp_path: Any, scale_out: bool) -> None:
    direct = create_app(settings(tmp_path, engine="scripted"))
    async with direct.router.lifespan_context(direct):
        expected = await replies(direct)
    a, b = (FakeUpstream(scale_out=scale_out) for _ in range(2))
    async with upstreams(a, b):
        engine = RemoteEngine([a.url, b.url], load_model=load_scripted)
        own = settings(tmp_path, engine="remote", upstream=[a.url, b.url])
        app = create_app(own, engine)
        async with app.router.lifespan_context(app):
            assert await replies(app) == expected
            assert a.served > 3 and b.served > 3
            assert await engine.in_flight() == 0


@pytest.mark.parametrize("scale_out", [True, False], ids=["generate", "completions"])
async def test_tokens_of_its_prefix_cache_are_told(
    tmp_path: Any, scale_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as it has told them: not where its first request was left before its end."""
    monkeypatch.setattr(upstream, "_USAGE_SECONDS", 0.1)
    server = ScriptedEngine(ScriptedBehaviour(cached_tokens=16))
    fake = FakeUpstream(server, scale_out=scale_out)
    async with upstreams(fake):
        engine = RemoteEngine([fake.url], load_model=load_scripted)
        app = create_app(settings(tmp_path, engine="remote", upstream=[fake.url]), engine)
        async with app.router.lifespan_context(app):
            found = await replies(app)
            told = {
                name: reply["usage"].get("prompt_tokens_details") for name, reply in found.items()
            }
            ended = {name: {"cached_tokens": 16} for name in told}
            assert told == ended | dict.fromkeys(("cap", "closing"))
            server.behaviour = ScriptedBehaviour()
            plain = await replies(app)
            assert not any("prompt_tokens_details" in reply["usage"] for reply in plain.values())
            for reply in found.values():
                reply["usage"].pop("prompt_tokens_details", None)
            assert plain == found
            fake.faults = Faults(endless=True)
            assert (await replies(app))["level"] == plain["level"]


async def test_a_lost_upstream_in_a_stream_is_an_error_event(tmp_path: Any) -> None:
    fake = FakeUpstream(faults=Faults(cut=True, after=3))
    async with upstreams(fake):
        engine: Engine = RemoteEngine([fake.url], load_model=load_scripted)
        app = create_app(settings(tmp_path, engine="remote", upstream=[fake.url]), engine)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
                turn = [{"role": "user", "content": "What is 12 * 3 + 4?"}]
                body = {"messages": turn, "stream": True}
                response = await client.post("/v1/chat/completions", json=body)
                events = [e[6:] for e in response.text.split("\n\n") if e.startswith("data: ")]
                assert events[-1] == "[DONE]" and "error" in json.loads(events[-2])
                fake.faults.cut = False
                fake.faults.answer = (503, "gone")
                refused = await client.post("/v1/chat/completions", json={"messages": turn})
                assert refused.status_code == 503 and refused.headers["retry-after"]
                assert (await client.get("/ready")).status_code == 503


async def test_busy_upstreams_make_a_busy_server_that_says_which_are_up(tmp_path: Any) -> None:
    full = Faults(answer=(503, {"error": {"message": "secret detail"}}), retry_after="11")
    a, b = FakeUpstream(faults=full), FakeUpstream(faults=Faults(health=503))
    async with upstreams(a, b):
        engine = RemoteEngine([a.url, b.url], load_model=load_scripted)
        app = create_app(settings(tmp_path, engine="remote", upstream=[a.url, b.url]), engine)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
                turn = [{"role": "user", "content": "What is 12 * 3 + 4?"}]
                for stream in (False, True):
                    body = {"messages": turn, "stream": stream}
                    response = await client.post("/v1/chat/completions", json=body)
                    assert (response.status_code, response.headers["retry-after"]) == (503, "11")
                    assert response.json()["error"]["code"] == "engine_busy"
                    assert "secret" not in response.text
                assert (await client.get("/ready")).status_code == 200
                told = (await client.get("/metrics")).text
                assert f'extracot_upstream_up{{model="m",upstream="{a.url}"}} 1.0' in told
                assert f'extracot_upstream_up{{model="m",upstream="{b.url}"}} 0.0' in told
                assert 'extracot_rejected_total{reason="engine_busy"} 2.0' in told
                assert not re.search(r"extracot_requests_total\{.*\} [^0]", told)


async def test_the_name_is_the_upstreams(tmp_path: Any) -> None:
    fake = FakeUpstream(model="org/some-model", root=str(tmp_path))
    scripted_card().save(tmp_path)
    async with upstreams(fake):
        engine = RemoteEngine([fake.url], load_model=load_scripted)
        app = create_app(Settings(engine="remote", upstream=[fake.url]), engine)
        async with app.router.lifespan_context(app):
            service = app.state.extracot.services["some-model"]
            assert service.model.mode == "token", "a card beside what the upstream loaded is used"
