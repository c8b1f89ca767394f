"""What servers of engine `openai` refuse: of one request or for good, and what a client is told."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import openai
import pytest

from extracot_server.config.upstreams_file import UpstreamSettings
from extracot_server.engine.base import EngineStartError
from extracot_server.engine.openai.upstream import ChatUpstream
from extracot_server.engine.remote.catalog import ModelCard, UpstreamMismatchError, choose_model
from extracot_server.engine.remote.failures import (
    Failures,
    concealed,
    keyless,
    without_secrets,
)
from extracot_server.engine.remote.fleet import Fleet
from extracot_server.engine.remote.wire import UpstreamFailure, read_error
from extracot_server.model_registry.routing import reload_upstreams
from tests.server.engine.chat_fakes import FakeChat, event, in_front_of
from tests.server.engine.test_openai_routing import fakes, routed
from tests.server.live import Live, user

NO_TOOLS = {"error": {"message": "No endpoints found that support tool use", "code": 404}}


def refusing(status: int, message: str = "no") -> tuple[int, Any]:
    return status, {"error": {"message": message}}


def ups(live: Live) -> list[str | None]:
    """Why each upstream is out; ``None``: it is not."""
    return [state.down for state in live.engine.upstreams()]


def test_a_404_of_one_request_takes_nobody_elses_server_away() -> None:
    fake = FakeChat(refusal=(404, NO_TOOLS))
    with in_front_of(fake, health_interval_seconds=60) as live:
        error = live.post().json()["error"]
        assert (error["type"], error["code"]) == ("not_found_error", "upstream_refused")
        assert "No endpoints found that support tool use" in error["message"]
        assert ups(live) == [None] and live.http.get("/ready").status_code == 200
        fake.refusal = None
        assert live.post().status_code == 200


def test_a_404_of_a_model_that_is_gone_takes_its_server_away() -> None:
    fake, other = FakeChat(refusal=(404, NO_TOOLS)), FakeChat()
    with in_front_of(fake, other, health_interval_seconds=60) as live:
        for _ in range(2):
            assert live.post().status_code == 200, "another one is asked"
        assert ups(live) == [None, None] and fake.bodies
        fake.model = "another"
        for _ in range(2):
            assert live.post().status_code == 200
        live.wait_for(lambda: "serves another, not thinker" in (ups(live)[0] or ""))
        other.refusal, other.model = fake.refusal, "another"
        assert live.post().status_code == 503
        assert live.http.get("/ready").status_code == 503


@pytest.mark.parametrize(
    ("status", "told", "kind"),
    [
        (402, 402, "insufficient_quota"),
        (403, 403, "permission_error"),
        (405, 502, "server_error"),
        (409, 409, "invalid_request_error"),
        (415, 415, "invalid_request_error"),
        (418, 502, "server_error"),
        (451, 451, "invalid_request_error"),
    ],
)
def test_a_refusal_has_the_servers_words_and_none_of_our_secrets(
    status: int, told: int, kind: str
) -> None:
    fake = FakeChat(api_key="sk-behind-123")
    with in_front_of(fake, upstream_api_key="sk-behind-123") as live:
        fake.refusal = refusing(status, f"sk-behind-123 may not use {fake.url}/v1: top up")
        response = live.post()
        error = response.json()["error"]
        assert response.status_code == told
        assert (error["type"], error["code"], error["param"]) == (kind, "upstream_refused", None)
        start = f"The server behind this model refused the request with status {status}"
        assert error["message"] == f"{start}: … may not use …/v1: top up"
        asked = {"messages": user(), "max_tokens": 99, "model": "thinker"}
        messages = live.http.post("/v1/messages", json=asked)
        assert messages.status_code == told and "top up" in messages.json()["error"]["message"]
        fake.refusal = (status, {})
        assert live.post(stream=True).json()["error"]["message"] == f"{start}."
        assert live.metric_sum("extracot_requests_total") == 0, "none of them was served"
        assert live.metric_sum("extracot_rejected_total", reason="upstream_refused") == 3
        assert live.metric_sum("extracot_rejected_total") == 3
        assert ups(live) == [None]


LLAMA = "the request exceeds the available context size (4096 tokens), try increasing it"
VLLM = "This model's maximum context length is 4096 tokens. However, your prompt has 9000."


@pytest.mark.parametrize(
    ("told", "streams"),
    [
        ({"message": VLLM, "param": "input_tokens", "code": 400}, False),
        ({"message": VLLM, "param": "input_tokens", "code": 400}, True),
        ({"message": LLAMA, "type": "exceed_context_size_error", "n_ctx": 4096}, False),
        ({"message": "Too many tokens.", "code": "context_length_exceeded", "type": [1]}, False),
        ({"message": "Prompt is too long: 9000 tokens > 4096 maximum"}, False),
    ],
    ids=["vllm", "in its stream", "llama.cpp", "code", "words"],
)
def test_a_prompt_that_a_server_finds_too_long_is_every_clients_own_error(
    told: dict[str, Any], *, streams: bool
) -> None:
    fake = FakeChat(refusal=(400, {"error": told}))
    if streams:
        fake = FakeChat(script=[event(error=told)])
    with in_front_of(fake) as live:
        error = live.post().json()["error"]
        assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
        assert error["message"].lower().startswith("prompt is too long: ")
        assert told["message"] in error["message"]
        asked = {"input": "hi", "model": "thinker"}
        error = live.http.post("/v1/responses", json=asked).json()["error"]
        assert (error["code"], error["param"]) == ("context_length_exceeded", "input")
        asked = {"messages": user(), "max_tokens": 99, "model": "thinker"}
        error = live.http.post("/v1/messages", json=asked).json()["error"]
        assert "prompt is too long: " in error["message"].lower()
        reason = {"reason": "context_length_exceeded"}
        assert live.metric_sum("extracot_rejected_total", **reason) == 3


def test_a_length_that_a_server_finds_too_large_is_no_prompts() -> None:
    words = "max_tokens is too large: 9000. This model's maximum context length is 4096 tokens."
    with in_front_of(FakeChat(refusal=refusing(400, words))) as live:
        error = live.post().json()["error"]
        assert (error["code"], error["param"]) == ("invalid_value", "max_tokens")


def test_a_client_asks_no_second_time_for_what_is_refused() -> None:
    fake = FakeChat(refusal=refusing(402, "Insufficient credits"))
    with in_front_of(fake) as live, openai.OpenAI(base_url=f"{live.url}/v1", api_key="x") as client:
        with pytest.raises(openai.APIStatusError, match="Insufficient credits") as caught:
            client.chat.completions.create(model="thinker", messages=user())  # type: ignore[arg-type]
        assert caught.value.status_code == 402 and len(fake.bodies) == 1


def test_a_refused_field_shows_no_secret_either() -> None:
    fake = FakeChat(api_key="sk-behind-123")
    with in_front_of(fake, upstream_api_key="sk-behind-123") as live:
        fake.refusal = refusing(400, f"{fake.url}: sk-behind-123 has no such field")
        error = live.post().json()["error"]
        assert (error["code"], error["message"]) == ("invalid_value", "…: … has no such field")


@pytest.mark.parametrize("status", [400, 402, 403, 405, 429, 500])
@pytest.mark.parametrize("before", [150, 190, 350, 376, 382, 395])
def test_a_secret_at_the_end_of_what_is_told_is_none_of_it(
    status: int, before: int, caplog: pytest.LogCaptureFixture
) -> None:
    settings = UpstreamSettings("http://h.example:8000/v1", api_key="sk-upstream-secret")
    upstream = ChatUpstream(settings)
    for secret, part in (("sk-upstream-secret", "sk-"), (settings.url, "h.ex")):
        body = {"error": {"message": f"{'y' * before} {secret} {secret} z" + "y" * 999}}
        error = read_error(status, json.dumps(body).encode())
        failures = Failures(cast("Fleet", SimpleNamespace(serves=True)))
        if isinstance(error, UpstreamFailure):
            failures.add(upstream, error)
            told = "" if secret == settings.url else failures.why.replace(settings.url, "")
            if status not in (429, 500):
                told += str(failures.error())
        else:
            told = str(without_secrets(error, settings))
        assert part not in told and len(told) < 1000


def test_a_placeholder_for_a_key_takes_nothing_out_of_words() -> None:
    for key in ("x", "none", "EMPTY", "1234567"):
        settings = UpstreamSettings("http://h.example", api_key=key)
        words = f"none of the context is EMPTY: {key}"
        assert concealed(words, settings) == keyless(words, settings) == words
    settings = UpstreamSettings("http://h.example", api_key="12345678")
    assert concealed("12345678 is out", settings) == "… is out"


@pytest.mark.parametrize("status", [408, 425])
def test_bad_luck_is_no_refusal(status: int) -> None:
    with in_front_of(FakeChat(refusal=refusing(status))) as live:
        response = live.post()
        assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")


def test_a_server_that_serves_goes_before_one_that_refuses_and_a_busy_one_too() -> None:
    fake, other = FakeChat(refusal=refusing(402)), FakeChat()
    with in_front_of(fake, other) as live:
        assert [live.post().status_code for _ in range(2)] == [200, 200]
        other.refusal = refusing(429)
        assert live.post().status_code == 503
        other.refusal = refusing(500)
        assert live.post().status_code == 402


def test_what_a_refusal_means_for_its_server() -> None:
    upstream = ChatUpstream(UpstreamSettings("http://h.example:8000", api_key="sk-behind"))
    lost = {status: read_error(status, b"{}") for status in (401, 402, 403, 404, 409, 503)}
    assert [s for s, error in lost.items() if upstream.is_lost(error)] == [401, 503]  # type: ignore[arg-type]
    told = concealed("sk-behind at h.example:8000, h.example", upstream.settings)
    assert told == "… at …, …"
    local = UpstreamSettings("http://vllm")
    assert concealed("http://vllm/x: vllm says no", local) == "…/x: vllm says no"


@pytest.mark.parametrize("health", [429, 302, 401, 404, 405])
def test_a_server_that_answers_at_all_is_used(health: int) -> None:
    with in_front_of(FakeChat(health=health)) as live:
        assert live.post().status_code == 200


@pytest.mark.parametrize("health", [500, 502, 503])
def test_a_server_that_is_ill_is_not(health: int) -> None:
    ill = FakeChat(health=health)
    with pytest.raises(EngineStartError, match="cannot be used"), in_front_of(ill):
        pass


def test_a_list_that_is_asked_for_too_often_is_no_other_server() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(429, stream=httpx.ByteStream(b""))

    async def ask() -> None:
        settings = UpstreamSettings("http://h")
        upstream = ChatUpstream(settings, transport=httpx.MockTransport(answer))
        await upstream.models()

    with pytest.raises(UpstreamFailure, match="status 429"):
        asyncio.run(ask())


def test_one_of_several_models_has_to_be_chosen() -> None:
    cards = [ModelCard(id=name, max_model_len=99) for name in "pqr"]
    with pytest.raises(UpstreamMismatchError, match="serves p, q, r: choose one with --model"):
        choose_model(cards, None, "http://h")
    assert choose_model(cards, "q", "http://h").id == "q"
    same = [ModelCard(id=name, root="/m", max_model_len=99) for name in "pq"]
    assert choose_model(same, None, "http://h").id == "p", "two names of one model"
    assert choose_model(cards[:1], None, "http://h").id == "p"


def test_one_of_another_kind_is_not_taken_when_it_comes_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake, late = FakeChat(owner="vllm"), FakeChat(owner="sglang", health=503)
    with in_front_of(fake, late, health_interval_seconds=0.05) as live:
        late.health = 200
        live.wait_for(lambda: "is of kind sglang" in (ups(live)[1] or ""))
        assert "the model's others are of kind vllm: say which" in caplog.text
        late.owner = "vllm"
        live.wait_for(lambda: ups(live) == [None, None])


def test_a_kind_that_is_named_is_everybodys() -> None:
    fake, late = FakeChat(owner="vllm"), FakeChat(owner="sglang", health=503)
    offers = {"kind": "vllm"}
    with in_front_of(fake, late, health_interval_seconds=0.05, upstream_offers=offers) as live:
        late.health = 200
        live.wait_for(lambda: ups(live) == [None, None])


def test_one_of_another_kind_in_a_file_leaves_what_was(tmp_path: Path) -> None:
    a, b = fakes("a", "b", reasoning=[])
    b.owner = "vllm"
    with routed(tmp_path, [a, b], {"name": "a"}, {"name": "b", "drain": True}) as (live, path):
        assert ups(live)[0] is None and "is of kind vllm" in (ups(live)[1] or "")
        first, second = json.loads(path.read_text())["upstreams"]
        path.write_text(json.dumps({"upstreams": [first]}))
        live.run(reload_upstreams(live.app.state.extracot))
        path.write_text(json.dumps({"upstreams": [first, {**second, "drain": False}]}))
        (line,) = live.run(reload_upstreams(live.app.state.extracot))
        assert "is of kind vllm, the model's others are of kind llama.cpp" in line
        assert "stay in force" in line and live.post().status_code == 200
