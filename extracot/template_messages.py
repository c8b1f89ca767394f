"""Turns and tools as the messages and definitions that chat templates take.

What a client said is not in them: placeholders stand for it. Knows the forms that templates expect,
and nothing of what they write.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum, auto
from typing import Any

from extracot.conversation import ToolCall, Turn
from extracot.tool_text import Placeholders

# Letters and digits only: no template trims, escapes or looks for these.
PLACEHOLDER = "qXzMessage{:06d}qXz"
"""Stands for the content of a message that is the user's, the system's or an assistant's."""

_REASONING = ("reasoning_content", "reasoning", "thinking", "thought")
"""The fields of a message in which templates look for an assistant's earlier reasoning."""

_NO_OBJECT = "INVALID_JSON"
"""Under this name a text that is no JSON object stands in one, as in Anthropic's API."""


class Arguments(Enum):
    """How a template gets the arguments of calls; some take only one of these."""

    VALUE = auto()  # an object, or a text that is none
    TEXT = auto()  # JSON text
    OBJECT = auto()  # an object, which holds a text that is none


def message_of(
    turn: Turn, index: int, placeholders: Placeholders, way: Arguments
) -> dict[str, Any]:
    """A turn as templates take it."""
    entry: dict[str, Any] = {"role": turn.role.value, "content": PLACEHOLDER.format(index)}
    if turn.reasoning:
        reasoning = placeholders.of(turn.reasoning, turn.reasoning_field)
        entry |= dict.fromkeys(_REASONING, reasoning)
        if turn.calls:
            entry["tool_plan"] = reasoning
    if turn.answers is not None:
        entry["content"] = placeholders.of(turn.text, turn.content_field)
        entry["tool_call_id"] = _shown_id(turn.answers, placeholders)
        entry["name"] = placeholders.of(turn.answers.name, turn.call_field)
    elif turn.calls:
        entry["content"] = entry["content"] if turn.text else ""
        entry["tool_calls"] = [_call(call, placeholders, way) for call in turn.calls]
    return entry


def _call(call: ToolCall, placeholders: Placeholders, way: Arguments) -> dict[str, Any]:
    given, field = call.arguments or {}, call.field
    arguments: Any
    if not isinstance(given, str) and way is not Arguments.TEXT:
        arguments = placeholders.masked(given, field)
    else:
        text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        arguments = placeholders.of(text, field)
        if way is Arguments.OBJECT:
            arguments = {_NO_OBJECT: arguments}
    function = {"name": placeholders.of(call.name, field), "arguments": arguments}
    return {"id": _shown_id(call, placeholders), "type": "function", "function": function}


def _shown_id(call: ToolCall, placeholders: Placeholders) -> str:
    """A call's id, the same at its result: templates may put results in the order of the calls.

    One of nine letters and digits is shown as it is: some templates take no other (Mistral's).
    """
    if len(call.id) == 9 and call.id.isascii() and call.id.isalnum():
        return call.id
    return placeholders.of(call.id, f"{call.field}.id")


def tool_forms(tools: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Mapping[str, Any]]]:
    """Definitions as they are, and with what a template may expect of each."""
    yield tools
    whole = [_completed(tool) for tool in tools]
    if whole != list(tools):
        yield whole


def _completed(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    function = tool.get("function")
    if not isinstance(function, Mapping):
        return tool
    parameters = function.get("parameters") or {}
    if isinstance(parameters, Mapping):
        parameters = {"type": "object", "properties": {}, "required": [], **parameters}
    function = {**function, "description": function.get("description") or ""}
    return {**tool, "function": {**function, "parameters": parameters}}
