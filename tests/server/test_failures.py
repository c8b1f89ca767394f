"""Clients that leave, and engines that refuse, fail or die: before a reply and in the middle."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from extracot_server.config.settings import Settings, SettingsError
from extracot_server.engine.base import EngineRequestError, GenerationDelta, GenerationRequest
from extracot_server.engine.scripted.engine import ScriptedBehaviour, ScriptedEngine
from extracot_server.model_registry.loading import serve_model
from tests.server.live import Live, read_events, serve, user

SLOW = ScriptedBehaviour(token_interval_seconds=0.05, never_close=True)


def outcome(live: Live, name: str) -> float:
    """Requests that ended so."""
    return live.metric_sum("extracot_requests_total", outcome=name)


def leave_at_once(live: Live, **fields: Any) -> None:
    """Send a whole request and hang up when the engine has it."""
    body = json.dumps({"messages": user(), **fields}).encode()
    host, port = live.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as raw:
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        raw.sendall(head.encode() + body)
        live.wait_for(lambda: live.in_flight() > 0)


@pytest.mark.parametrize("fields", [{}, {"n": 3}, {"budget": "auto"}, {"budget": 0.2}], ids=str)
@pytest.mark.parametrize("stream", [False, True])
def test_leaving_aborts_in_the_engine(fields: dict[str, Any], stream: bool) -> None:
    with serve(SLOW) as live:
        leave_at_once(live, stream=stream, **fields)
        live.wait_for(lambda: live.in_flight() == 0)
        live.wait_for(lambda: outcome(live, "aborted") == 1)
        assert live.metric_sum("extracot_aborts_total", reason="disconnect") == 1
        assert live.metric_sum("extracot_requests_in_flight") == 0
        assert outcome(live, "ok") == outcome(live, "length") == 0
        assert live.metric_sum("extracot_baseline_tokens_total") == 0
        assert live.metric_sum("extracot_tokens_saved_total") == 0


def test_leaving_in_the_middle_of_a_stream_counts_what_was_generated() -> None:
    with serve(SLOW) as live:
        body = {"messages": user(), "stream": True, "budget": 0.2}
        with live.http.stream("POST", "/v1/chat/completions", json=body) as response:
            lines = response.iter_lines()
            seen = [next(lines) for _ in range(12)]
        assert sum("reasoning" in line for line in seen) >= 4
        live.wait_for(lambda: live.in_flight() == 0)
        live.wait_for(lambda: outcome(live, "aborted") == 1)
        assert live.metric_sum("extracot_reasoning_tokens_total") >= 4
        assert live.metric_sum("extracot_prompt_tokens_total") > 0


def test_a_client_that_leaves_does_not_disturb_another() -> None:
    with serve(ScriptedBehaviour(token_interval_seconds=0.01)) as live:
        with httpx.Client(base_url=live.url, timeout=60) as other:
            body = {"messages": user(), "stream": True}
            with other.stream("POST", "/v1/chat/completions", json=body) as response:
                leave_at_once(live)
                response.read()
        assert response.text.endswith("data: [DONE]\n\n")
        live.wait_for(lambda: outcome(live, "aborted") == 1)
        assert outcome(live, "ok") == 1


def test_an_engine_that_dies_before_a_reply_is_a_503() -> None:
    with serve(ScriptedBehaviour(die_after_tokens=0)) as live:
        assert live.http.get("/ready").status_code == 200
        first = live.post()
        assert first.status_code == 503
        assert first.json()["error"]["code"] == "engine_unavailable"
        assert first.headers["retry-after"]
        assert live.http.get("/ready").status_code == 503
        assert live.http.get("/health").status_code == 200
        assert live.metric_sum("extracot_engine_up") == 0
        assert live.metric_sum("extracot_rejected_total") == 0  # it had reached the engine
        error = live.refused(status=503)  # refused before it runs, from now on
        assert live.metric_sum("extracot_rejected_total", reason="engine_unavailable") == 1
        assert error["type"] == "service_unavailable_error"
        assert outcome(live, "error") == 1
        assert live.metric_sum("extracot_aborts_total", reason="engine") == 1


@pytest.mark.parametrize("n", [1, 2])
def test_an_engine_that_dies_in_a_stream_is_an_event(n: int) -> None:
    with serve(ScriptedBehaviour(die_after_tokens=12)) as live:
        response = live.post(stream=True, n=n)
        assert response.status_code == 200
        *events, error, done = read_events(response.text)
        assert done == "[DONE]"
        assert json.loads(error)["error"]["code"] == "engine_unavailable"
        assert "reasoning" in "".join(events)
        assert all(json.loads(event)["choices"][0]["finish_reason"] is None for event in events)
        assert live.http.get("/ready").status_code == 503
        assert outcome(live, "error") == 1
        live.wait_for(lambda: live.in_flight() == 0)


def test_a_dead_engine_is_noticed_while_nobody_asks() -> None:
    with serve(health_interval_seconds=0.05) as live:
        assert live.metric_sum("extracot_engine_up") == 1
        live.loop.call_soon_threadsafe(live.engine.die)
        live.wait_for(lambda: live.metric_sum("extracot_engine_up") == 0)
        assert live.http.get("/ready").status_code == 503


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_fails_does_not_take_the_server_down(stream: bool) -> None:
    with serve(ScriptedBehaviour(fail_after_tokens=0)) as live:
        response = live.post(stream=stream)
        assert response.status_code == 500
        error = response.json()["error"]
        assert (error["type"], error["code"]) == ("server_error", "internal_error")
        assert response.headers["x-request-id"]
        assert live.http.get("/ready").status_code == 200
        assert outcome(live, "error") == 1


def test_a_request_that_fails_in_a_stream_is_an_event() -> None:
    with serve(ScriptedBehaviour(fail_after_tokens=9)) as live:
        *_, error, done = read_events(live.post(stream=True).text)
        assert (json.loads(error)["error"]["code"], done) == ("internal_error", "[DONE]")
        assert live.http.get("/ready").status_code == 200


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 2])
def test_a_request_that_the_engine_refuses_is_a_400(stream: bool, n: int) -> None:
    refusal = EngineRequestError("top_k is odd", param="top_k")
    with serve(ScriptedBehaviour(reject_with=refusal)) as live:
        response = live.post(stream=stream, n=n)
        assert response.status_code == 400
        error = response.json()["error"]
        assert (error["message"], error["param"]) == ("top_k is odd", "top_k")
        assert live.http.get("/ready").status_code == 200
        counted = live.http.get("/metrics").text
        assert live.metric_sum("extracot_requests_total") == 0  # refused, so never served
        assert 'extracot_rejected_total{reason="invalid_value"} 1.0' in counted


def test_earlier_turns_may_be_empty() -> None:
    turns = [("system", ""), ("user", "Hi"), ("assistant", None), ("user", "What is 2 + 2?")]
    with serve() as live:
        messages = [{"role": role, "content": text} for role, text in turns]
        assert live.post(messages=messages).status_code == 200
        refused = live.post(messages=[{"role": "user", "content": ""}])
        assert refused.json()["error"]["param"] == "messages[0].content"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"default_budget": "auto"}, "default_budget is auto, but this model has no policy token"),
        ({"reasoning_effort_map": {"high": "auto"}}, "reasoning_effort_map.high is auto, but this"),
    ],
)
def test_auto_that_no_request_could_use_is_refused_at_the_start(
    settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        serve_model(Settings(engine="scripted", card="none", **settings), ScriptedEngine())
    serve_model(Settings(engine="scripted", **settings), ScriptedEngine())


class BrokenEngine(ScriptedEngine):
    """An engine with a bug of its own."""

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta, None]:
        """Fail in a way nobody foresaw."""
        self.requests.append(request)
        yield GenerationDelta((300,))
        raise ZeroDivisionError("secret detail")


def test_what_nobody_foresaw_is_a_500_that_tells_nothing() -> None:
    with serve(on=BrokenEngine()) as live:
        response = live.post()
        assert response.status_code == 500
        assert response.json()["error"]["code"] == "internal_error"
        assert "secret" not in response.text
        assert response.headers["x-request-id"]
        streamed = live.post(stream=True)
        assert read_events(streamed.text)[-1] == "[DONE]"
        assert "secret" not in streamed.text
        assert live.metric_sum("extracot_requests_in_flight") == 0


def test_an_engine_that_cannot_start_ends_the_start() -> None:
    with (
        pytest.raises(Exception, match="no memory left"),
        serve(ScriptedBehaviour(start_error="no memory left")),
    ):
        raise AssertionError("it served")
