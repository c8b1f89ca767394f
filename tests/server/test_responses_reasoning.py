"""Reasoning over ``/v1/responses``: as itself or as a summary, and never twice; and ``include``."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from openai.types.responses import Response, ResponseStreamEvent

from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.server.live import QUESTION, Live, serve
from tests.server.test_responses import ENCRYPTED, EVENTS, OTHER, TOOL, ask
from tests.server.test_tools import ASK

SUMMARY_EVENTS = [
    kind.replace("content_part", "reasoning_summary_part").replace(
        "reasoning_text", "reasoning_summary_text"
    )
    if 2 < at < 7
    else kind
    for at, kind in enumerate(EVENTS)
]


def reasoning(response: Any) -> dict[str, Any]:
    """The first item of a response, which has the reasoning."""
    item: dict[str, Any] = response.output[0].model_dump()
    assert item["type"] == "reasoning"
    return item


@pytest.mark.parametrize("name", ["summary", "generate_summary"])
@pytest.mark.parametrize("kind", ["auto", "concise", "detailed"])
def test_a_summary_is_the_reasoning_itself(token_server: Live, name: str, kind: str) -> None:
    plain = ask(token_server, extra_body={"budget": 0.4})
    summed = ask(token_server, reasoning={name: kind}, extra_body={"budget": 0.4})
    text = reasoning(plain)["content"][0]["text"]
    assert text.strip()
    assert reasoning(summed)["summary"] == [{"type": "summary_text", "text": text}]
    assert not reasoning(summed)["content"]
    assert not reasoning(plain)["summary"]
    assert summed.output_text == plain.output_text
    assert (plain.reasoning.summary, summed.reasoning.summary) == (None, kind)
    assert summed.budget["ignored_fields"] == []


@pytest.mark.parametrize("nothing", [{"summary": None}, {"generate_summary": None}, {}])
def test_without_a_summary_it_is_content(token_server: Live, nothing: dict[str, Any]) -> None:
    item = reasoning(ask(token_server, reasoning=nothing))
    assert item["content"][0]["type"] == "reasoning_text"
    assert item["summary"] == []


def test_a_stream_has_the_summary_s_events_and_no_others(token_server: Live) -> None:
    fields: dict[str, Any] = {"reasoning": {"summary": "auto"}, "extra_body": {"budget": 0.2}}
    events = ask(token_server, stream=True, **fields)
    kinds = [event.type for event in events]
    assert [kind for at, kind in enumerate(kinds) if kinds[at - 1 : at] != [kind]] == SUMMARY_EVENTS
    whole = ask(token_server, **fields)
    final = events[-1].response
    assert final.output[0].summary == whole.output[0].summary
    deltas = [e for e in events if e.type == "response.reasoning_summary_text.delta"]
    assert "".join(event.delta for event in deltas) == final.output[0].summary[0].text
    parts = [e for e in events if e.type.startswith("response.reasoning_summary")]
    assert {(e.item_id, e.output_index, e.summary_index) for e in parts} == {
        (final.output[0].id, 0, 0)
    }
    added = next(event for event in events if event.type == "response.output_item.added")
    assert added.item.summary == []


def test_a_summary_that_breaks_off_is_incomplete() -> None:
    with serve(ScriptedBehaviour(fail_after_tokens=5)) as live:
        events = ask(live, stream=True, reasoning={"summary": "auto"})
    (item,) = events[-1].response.output
    assert (events[-1].type, item.status) == ("response.failed", "incomplete")
    text = "".join(e.delta for e in events if e.type.endswith("summary_text.delta"))
    assert item.summary[0].text == text != ""


def test_hidden_reasoning_has_no_summary_either(token_server: Live) -> None:
    hidden = ask(
        token_server, reasoning={"summary": "auto"}, extra_body={"include_reasoning": False}
    )
    assert [item.type for item in hidden.output] == ["message"]


def test_what_nothing_has_may_be_included(token_server: Live) -> None:
    wanted = ["file_search_call.results", ENCRYPTED, "web_search_call.action.sources"]
    asked = ask(token_server, include=wanted)
    assert asked.budget["ignored_fields"] == ["include[0]", "include[2]"]
    assert ask(token_server, include=[]).status == "completed"


def test_advice_is_taken_and_listed(token_server: Live) -> None:
    advice: dict[str, Any] = {
        "truncation": "auto",
        "max_tool_calls": 3,
        "text": {"verbosity": "low"},
        "reasoning": {"effort": "low", "context": "auto", "mode": "standard", "zebra": 1},
        "context_management": [{"type": "compaction", "compact_threshold": 1000}],
        "client_metadata": {"a": "b"},
    }
    reply = token_server.http.post(
        "/v1/responses", json={"input": QUESTION, **advice, "background": False}
    ).json()
    assert reply["budget"]["ignored_fields"] == [
        *("background", "client_metadata", "context_management", "max_tool_calls"),
        *("reasoning.zebra", "text.verbosity", "truncation"),
    ]
    assert reply["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    assert reply["reasoning"] == {"effort": "low", "summary": None}
    assert (reply["max_tool_calls"], reply["truncation"]) == (3, "disabled")


def test_bookkeeping_is_repeated_and_not_listed(token_server: Live) -> None:
    told = {"prompt_cache_key": "k", "safety_identifier": "s", "user": "u", "metadata": {"a": "b"}}
    reply = token_server.http.post(
        "/v1/responses",
        json={"input": QUESTION, **told, "service_tier": "flex", "prompt_cache_retention": "24h"},
    ).json()
    assert {name: reply[name] for name in told} == told
    assert reply["service_tier"] == "default"
    assert reply["budget"]["ignored_fields"] == []


# The official types ---------------------------------------------------------------------------

KINDS = {
    get_args(kind.model_fields["type"].annotation)[0]: kind
    for kind in get_args(get_args(ResponseStreamEvent)[0])
}


@pytest.fixture(scope="module")
def tool_live() -> Any:
    with serve(tool_parser="hermes") as live:
        yield live


@pytest.mark.parametrize(
    "fields",
    [
        {"input": QUESTION},
        {"input": QUESTION, "reasoning": {"summary": "detailed", "effort": "low"}},
        {"input": QUESTION, "max_output_tokens": 5, "instructions": "Be brief."},
        {"input": QUESTION, "include": [ENCRYPTED], "store": False, "text": {"verbosity": "low"}},
        {
            "input": ASK,
            "tools": [TOOL, OTHER, {"type": "web_search"}],
            "reasoning": {"summary": "auto"},
        },
        {
            "input": ASK,
            "tools": [{"type": "namespace", "name": "n", "description": "d", "tools": [TOOL]}],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "namespace": "n", "name": "get_weather"}],
            },
        },
    ],
)
def test_replies_and_events_are_of_the_sdk_s_types(tool_live: Live, fields: dict[str, Any]) -> None:
    """Strictly: the SDK itself takes whatever comes."""
    whole = tool_live.http.post("/v1/responses", json=fields)
    assert whole.status_code == 200, whole.text
    Response.model_validate_json(whole.content, strict=True)
    text = tool_live.http.post("/v1/responses", json={**fields, "stream": True}).text
    for frame in text.strip().split("\n\n"):
        name, data = (line.partition(": ")[2] for line in frame.splitlines())
        event = json.loads(data)
        assert event["type"] == name
        KINDS[name].model_validate_json(data, strict=True)
