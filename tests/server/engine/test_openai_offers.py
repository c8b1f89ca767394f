"""What servers of engine `openai` offer: settings refused, and only what can be had offered."""

from __future__ import annotations

import datetime
import math
from typing import Any

import pytest

from extracot_server.config.offers import check_offers, offers_of
from tests.server.engine.chat_fakes import FakeChat, in_front_of
from tests.server.live import Live, user
from tests.server.test_tools import WEATHER

OURS = "is a field that this server sets itself"
HEIGHT = {"type": "object", "properties": {"m": {"type": "integer"}}}
STRICT = {"name": "height", "strict": True, "description": "in metres", "schema": HEIGHT}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"off": {"thinking.x": math.nan}}, "off: the value of thinking.x is not JSON"),
        ({"on": {"a": {"b": [math.inf]}}}, "on: the value of a is not JSON"),
        ({"counts": {"a": datetime.date(2026, 1, 2)}}, "counts: the value of a is not JSON"),
        ({"continues": {"a": b"x"}}, "continues: the value of a is not JSON"),
        ({"budget": "max_tokens"}, f"budget: max_tokens {OURS}"),
        ({"budget": "temperature"}, f"budget: temperature {OURS}"),
        ({"effort": "tools.x", "efforts": "low high"}, f"effort: tools.x {OURS}"),
        ({"max_tokens": "stream_options"}, f"max_tokens: stream_options {OURS}"),
        ({"off": {"max_completion_tokens": 1}}, f"off: max_completion_tokens {OURS}"),
        ({"counts": {"stream_options": {}}}, f"counts: stream_options {OURS}"),
        (
            {"counts": {"stream_options.include_usage": False}},
            f"counts: stream_options.include_usage {OURS}",
        ),
        ({"on": {"stream_options.a": 1}}, f"on: stream_options.a {OURS}"),
        ({"continues": {"n": 2}}, f"continues: n {OURS}"),
        ({"reasoning": "content"}, f"reasoning: content {OURS}"),
        ({"effort": "x", "efforts": "low high", "budget": "x"}, "budget: x is set by effort as"),
        (
            {"effort": "r", "efforts": "low high", "budget": "r.tokens"},
            "budget: r.tokens is within r, which is set as well",
        ),
        ({"kind": "openai", "on": {"reasoning_effort": "low"}}, "on: reasoning_effort is set by"),
        ({"max_tokens": "size", "counts": {"size": 1}}, "counts: size is set by max_tokens as"),
        ({"off": {"a": 1, "a.b": 2}}, "off: a.b is within a, which"),
        ({"effort": "x", "efforts": "low high low"}, "efforts: low is there twice"),
        (
            {"effort": "x", "efforts": "low turbo"},
            "efforts: turbo has no budget that it stands for",
        ),
        ({"kind": "openai", "effort": None, "efforts": "low"}, "effort and efforts go together"),
        ({"kind": "openai", "effort": "x", "efforts": []}, "effort and efforts go together"),
        ({"effort": "x"}, "effort and efforts go together"),
        ({"path": "//h/x"}, "path: string should match"),
    ],
    ids=str,
)
def test_offers_that_would_break_a_request_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        check_offers(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"budget": "t.n", "on": {"t.type": "on"}, "off": {"t.type": "off"}},
        {"budget": "limit", "on": {"limit": -1}, "off": {"limit": 0}},
        {"kind": "openai", "off": {"reasoning_effort": "minimal"}},
        {"kind": "openai", "efforts": "low high", "max_tokens": "max_tokens"},
        {"kind": "vllm", "counts": {"stream_options.continuous_usage_stats": True}},
        {"kind": "vllm", "budget": "chat_template_kwargs.thinking_budget"},
        {"max_tokens": "n_predict", "reasoning": "thought.text"},
    ],
    ids=str,
)
def test_offers_that_go_together_are_taken(given: dict[str, Any]) -> None:
    assert offers_of(check_offers(given), given.get("kind", "plain"))


@pytest.mark.parametrize("given", [{"effort": None}, {"efforts": ""}, {"efforts": []}], ids=str)
@pytest.mark.parametrize("kind", ["openai", None])
def test_a_kind_s_efforts_can_be_taken_away(given: dict[str, Any], kind: str | None) -> None:
    found = offers_of(check_offers({**given, "kind": kind}), "openai")
    assert found.effort is None and found.efforts == ()
    assert found.max_tokens == "max_completion_tokens", "the rest of the kind stays"


@pytest.mark.parametrize("kind", ["plain", "openai"])
def test_none_is_offered_only_where_it_can_be_had(kind: str) -> None:
    with in_front_of(FakeChat(), upstream_offers={"kind": kind}) as live:
        listed = live.http.get("/v1/models").json()["data"]
        assert "thinker@native" in {entry["id"] for entry in listed}
        assert "thinker@none" not in {entry["id"] for entry in listed}
        told = live.http.get("/v1/budget").json()
        for page in (told, listed[0]["budget"]):
            assert page["allowed"] == ["a number in (0, 1]", "native"]
            assert page["takes_card"] is False
        efforts = told["policy"]["reasoning_effort"]
        assert "none" not in efforts and efforts["low"] == 0.4
        text = error_of(live, budget="auto")["message"]
        assert text.endswith('Allowed here: a number in (0, 1] or "native".')
        text = error_of(live, reasoning_effort="less")["message"]
        assert "Allowed: minimal, low" in text


def test_none_is_offered_where_it_can_be_had() -> None:
    with in_front_of(FakeChat()) as live:
        listed = live.http.get("/v1/models").json()["data"]
        assert "thinker@none" in {entry["id"] for entry in listed}
        assert "none" in live.http.get("/v1/budget").json()["allowed"]
        assert error_of(live, budget="auto")["message"].endswith('"native" or "none".')


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"budget": "none"}, "budget"),
        ({"budget": {"ratio": "none"}}, "budget"),
        ({"budget": {"max_reasoning_tokens": 0}}, "budget"),
        ({"reasoning_effort": "none"}, "reasoning_effort"),
        ({"reasoning": {"effort": "none"}}, "reasoning.effort"),
        ({"enable_thinking": False}, "enable_thinking"),
        ({"thinking": {"type": "disabled"}}, "thinking.type"),
        ({"thinking_budget": 0}, "thinking_budget"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, None),
        ({"budget": {"closing": ""}, "enable_thinking": False}, "enable_thinking"),
        ({"budget": {"closing": ""}, "reasoning_effort": "none"}, "reasoning_effort"),
        ({"model": "thinker@none"}, "model"),
    ],
    ids=str,
)
def test_no_reasoning_that_cannot_be_had_names_the_clients_field(
    blind: Live, fields: dict[str, Any], param: str | None
) -> None:
    error = error_of(blind, **fields)
    assert error["param"] == (param or "chat_template_kwargs.enable_thinking")
    assert "cannot be asked not to reason" in error["message"]


def test_an_auto_that_cannot_be_had_names_the_clients_field(blind: Live) -> None:
    assert error_of(blind, budget="auto")["param"] == "budget"
    assert error_of(blind, model="thinker@auto")["param"] == "model"


@pytest.fixture(scope="module")
def blind() -> Any:
    """A server of kind plain."""
    with in_front_of(FakeChat(), upstream_offers={"kind": "plain"}) as live:
        yield live


def error_of(live: Live, **fields: Any) -> dict[str, Any]:
    """The error of a request that is a 400."""
    response = live.post(**fields)
    assert response.status_code == 400, response.text
    error: dict[str, Any] = response.json()["error"]
    return error


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("required", "required"),
        (
            {"type": "function", "function": {"name": "get_weather"}},
            {"type": "function", "function": {"name": "get_weather"}},
        ),
    ],
    ids=["required", "named"],
)
def test_a_call_may_be_forced_on_every_server(choice: Any, sent: Any) -> None:
    call = {"index": 0, "id": "c1", "function": {"name": "get_weather", "arguments": "{}"}}
    fake = FakeChat(reasoning=[], calls=[call])
    with in_front_of(fake, upstream_offers={"kind": "plain"}) as live:
        reply = live.chat(tools=[WEATHER], tool_choice=choice)
        assert reply["choices"][0]["finish_reason"] == "tool_calls"
        assert fake.bodies[0]["tool_choice"] == sent and "response_format" not in fake.bodies[0]


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        (STRICT, STRICT),
        ({**STRICT, "strict": False}, {**STRICT, "strict": False}),
        ({"schema": HEIGHT}, {"name": "answer", "schema": HEIGHT}),
    ],
    ids=["strict", "not strict", "nothing"],
)
def test_a_schema_goes_with_what_its_client_says_of_it(
    said: dict[str, Any], sent: dict[str, Any]
) -> None:
    fake = FakeChat(reasoning=[], answer=["{}"])
    with in_front_of(fake, upstream_offers={"kind": "openai"}) as live:
        live.chat(response_format={"type": "json_schema", "json_schema": said})
        form = {"type": "json_schema", **said}
        body = {"model": "thinker", "input": "How tall?", "text": {"format": form}}
        assert live.http.post("/v1/responses", json=body).status_code == 200
        form = {"type": "json_schema", "schema": HEIGHT}
        body = {"model": "thinker", "max_tokens": 99, "messages": user()}
        body["output_config"] = {"format": form}
        assert live.http.post("/v1/messages", json=body).status_code == 200
        chat, responses, messages = (one["response_format"]["json_schema"] for one in fake.bodies)
        assert chat == responses == sent
        assert messages == {"name": "answer", "strict": True, "schema": HEIGHT}


def test_a_server_with_a_grammar_holds_to_every_schema() -> None:
    fake = FakeChat(reasoning=[], answer=["{}"])
    loose = {**STRICT, "strict": False}
    strict_tool = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
    with in_front_of(fake) as live:
        live.chat(response_format={"type": "json_schema", "json_schema": loose})
        sent = fake.bodies[0]["response_format"]["json_schema"]
        assert sent == {"name": "height", "strict": True, "schema": HEIGHT}
        live.chat(tools=[strict_tool])
        assert fake.bodies[1]["tools"] == [WEATHER]


def test_a_tool_that_is_strict_stays_so_where_that_is_read() -> None:
    fake = FakeChat(reasoning=[])
    strict_tool = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
    with in_front_of(fake, upstream_offers={"kind": "openai"}) as live:
        live.chat(tools=[strict_tool])
        live.chat(tools=[WEATHER])
        assert [body["tools"] for body in fake.bodies] == [[strict_tool], [WEATHER]]
