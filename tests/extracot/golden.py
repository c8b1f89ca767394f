"""Conversations to render both ways: by our renderer, and by a tokenizer's own template.

In OpenAI's form, an assistant's earlier reasoning under ``reasoning``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from extracot import Control, Message, ToolCall
from tests.extracot.real_templates import RealTemplate

Conversation = list[dict[str, Any]]

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": 'The "weather" of a city.',
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Its name."},
                "days": {"type": "integer"},
            },
            "required": ["city"],
        },
    },
}
BARE_TOOL = {"type": "function", "function": {"name": "now"}}


def _called(call_id: str, reasoning: str, arguments: dict[str, Any], said: str = "") -> Any:
    function = {"name": "get_weather", "arguments": arguments}
    call = {"id": call_id, "type": "function", "function": function}
    return {"role": "assistant", "content": said, "reasoning": reasoning, "tool_calls": [call]}


def _result(call_id: str, text: str) -> dict[str, Any]:
    return {"role": "tool", "content": text, "tool_call_id": call_id, "name": "get_weather"}


# Models that see images, whose templates leave out a content that is no list of parts.
_IN_PARTS = frozenset({"idefics3", "llava_next", "smolvlm"})

_ASKED = {"role": "user", "content": "How warm is it?"}
_TOLD = {"role": "assistant", "content": "12 degrees."}
_AGAIN = {"role": "user", "content": "And in Rome?"}
# White space at the edges, quotes, keys out of order and one that is a word of JSON Schema.
_ROUNDS = [
    _called("call00001", "I need Bern first.", {"days": 2, "city": "Bern"}),
    _result("call00001", "12 degrees\n"),
    _called("call00002", '\nNow "Rome". ', {"type": "x", "zip": "<00118>\n", "city": "Rome’s"}),
    _result("call00002", '\n{"t": "20 °C"}'),
    _called("call00003", "And Bern again.", {"city": "it's", "more": [{"a": None, "b": True}]}),
    _result("call00003", "13"),
]
_CHAIN: Conversation = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi.", "reasoning": "They greet me."},
    _ASKED,
    *_ROUNDS,
]
CONVERSATIONS: Mapping[str, tuple[Conversation, list[dict[str, Any]]]] = {
    "one turn": ([_ASKED], []),
    "system": ([{"role": "system", "content": "Be brief."}, _ASKED], []),
    "two turns": ([_ASKED, _TOLD, _AGAIN], []),
    "two turns, reasoning": ([_ASKED, {**_TOLD, "reasoning": "It is 12."}, _AGAIN], []),
    "a tool": ([_ASKED], [TOOL]),
    "a bare tool": ([_ASKED], [TOOL, BARE_TOOL]),
    "a call": ([_ASKED, *_ROUNDS[:2]], [TOOL]),
    "a text and a call": (
        [_ASKED, _called("call00001", "Hm.", {"city": "Bern"}, "I will look."), _ROUNDS[1]],
        [TOOL],
    ),
    "a chain of calls": (_CHAIN, [TOOL]),
    "after a chain": (
        [*_CHAIN, {**_TOLD, "reasoning": "Both known."}, {**_AGAIN, "content": "Thanks."}],
        [TOOL],
    ),
}


class Mode(NamedTuple):
    """A control and switches for us, all variables for the template, and what we add behind."""

    name: str
    control: Control
    switches: Mapping[str, Any]
    variables: Mapping[str, Any]
    opens: bool = False


def modes(template: RealTemplate) -> Iterator[Mode]:
    """Native, no reasoning, each effort, a budget in tokens, a cap: what the template has."""
    traits = template.renderer.traits
    yield Mode("native", Control.native(), {}, traits.on)
    if traits.off is not None:
        yield Mode("none", Control.none(), {}, traits.off)
    for effort in traits.efforts:
        given = {traits.effort: effort}
        yield Mode(f"effort {effort}", Control.native(), given, {**traits.on, **given})
    if traits.budget:
        given_budget = {traits.budget: 1000}
        yield Mode("budget", Control.native(), given_budget, {**traits.on, **given_budget})
    yield Mode("cap", Control.open(), {}, traits.on, opens=True)


def messages(conversation: Conversation) -> list[Message]:
    """A conversation as our renderer takes it."""
    return [
        Message(
            entry["role"],
            entry["content"],
            tuple(
                ToolCall(call["function"]["name"], call["function"]["arguments"], call["id"])
                for call in entry.get("tool_calls", ())
            ),
            entry.get("tool_call_id", ""),
            reasoning=entry.get("reasoning"),
        )
        for entry in conversation
    ]


def own_text(
    template: RealTemplate, conversation: Conversation, tools: Any, variables: Mapping[str, Any]
) -> str:
    """The prompt that the tokenizer itself makes; raises whatever the template raises."""
    refusal: Exception | None = None
    for as_text in (False, True):
        given = [_own_form(template, entry, as_text) for entry in conversation]
        try:
            text: str = template.tokenizer.apply_chat_template(
                given,
                tools=tools or None,
                tokenize=False,
                add_generation_prompt=True,
                **variables,
            )
            return text
        except Exception as error:  # foreign code
            refusal = refusal or error
    assert refusal is not None
    raise refusal


def _own_form(template: RealTemplate, entry: dict[str, Any], as_text: bool) -> dict[str, Any]:
    """A message in the form that this template documents."""
    entry = dict(entry)
    reasoning = entry.pop("reasoning", None)
    said = [{"type": "text", "text": entry["content"]}] if entry["content"] else []
    if reasoning is not None and (field := _reasoning_field(template.text)):
        if field == "a part":
            entry["content"] = [{"type": "thinking", "thinking": reasoning}, *said]
        else:
            entry[field] = reasoning
    if template.name in _IN_PARTS:
        entry["content"] = said
    if as_text and "tool_calls" in entry:
        entry["tool_calls"] = [
            {
                **call,
                "function": {
                    "name": call["function"]["name"],
                    "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False),
                },
            }
            for call in entry["tool_calls"]
        ]
    return entry


def _reasoning_field(text: str) -> str | None:
    if re.search(r"\['type'\] == 'thinking'", text):
        return "a part"
    fields = ("reasoning_content", "reasoning", "thinking", "thought", "tool_plan")
    read = r"""(?:\w\.|\['|\["|get\('|get\("|["'])%s\b"""
    return next((field for field in fields if re.search(read % field, text)), None)
