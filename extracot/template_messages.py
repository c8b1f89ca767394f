"""Turns and tools as the messages and definitions that a chat template takes.

What a client said is not in them: placeholders stand for it. Which form a template wants is tried
out, once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, NamedTuple

from extracot.conversation import Role, ToolCall, Turn
from extracot.errors import PromptError
from extracot.tool_text import Placeholders

# Letters and digits only: no template trims, escapes or looks for these.
PLACEHOLDER = "qXzMessage{:06d}qXz"
"""Stands for the content of a message that is the user's, the system's or an assistant's."""

_REASONING = ("reasoning_content", "reasoning", "thinking", "thought")
"""The fields of a message in which templates look for an assistant's earlier reasoning."""

_NO_OBJECT = "INVALID_JSON"
"""Under this name a text that is no JSON object stands in one, as in Anthropic's API."""

PROBE_TOOL = {
    "type": "function",
    "function": {
        "name": "probe",
        "description": "probes",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string", "description": "where"}},
            "required": ["place"],
        },
    },
}
"""A tool with all that a template may look at, to try templates with."""

_BARE_TOOL = {"type": "function", "function": {"name": "probe"}}


class Arguments(Enum):
    """How a template gets the arguments of calls; some take only one of these."""

    VALUE = auto()  # an object, or a text that is none
    TEXT = auto()  # JSON text
    OBJECT = auto()  # an object, which holds a text that is none


class Forms(NamedTuple):
    """What a template wants of messages and tools beyond the usual form."""

    parts: bool = False
    """Contents have to be lists of parts: one that is a text is left out."""
    thinking_part: bool = False
    """Earlier reasoning is a part of the content, and no field."""
    text_or_reasoning: bool = False
    """It fails at a message with a call that has both a text and reasoning."""
    whole_tools: bool = False
    """It fails at a tool without a description or parameters."""


_USUAL, _THINKING = Forms(), Forms(thinking_part=True)

# A list of parts that was written as it is.
_LISTED = re.compile("[\"']type[\"']: ?[\"']thinking")

Write = Callable[[list[dict[str, Any]], Mapping[str, Any]], str]
"""Writes a prompt for messages; raises :class:`PromptError` if the template refuses them."""


def find_forms(write: Write) -> Forms:
    """The forms that a template wants, tried out."""

    def written(*turns: Turn, forms: Forms = _USUAL, tool: Mapping[str, Any] = PROBE_TOOL) -> str:
        made = Placeholders()
        messages = [message_of(turn, n, made, forms) for n, turn in enumerate(turns)]
        try:
            return write(messages, {"tools": [tool]})
        except PromptError:
            return ""

    asked = Turn(Role.USER, "x", "", "")
    called = Turn(Role.ASSISTANT, "x", "", "", calls=(ToolCall("probe", {}, "probe0001"),))
    said = called._replace(calls=(), reasoning="x", reasoning_field="x")
    place = PLACEHOLDER.format(0)
    thinks = called._replace(reasoning="x", reasoning_field="x")
    by_field = written(asked, said, asked) + written(asked, thinks)
    by_part = written(asked, said, asked, forms=_THINKING)
    shown = "qXzText000000"
    return Forms(
        parts=place not in written(asked) and place in written(asked, forms=Forms(parts=True)),
        thinking_part=shown not in by_field and shown in by_part and not _LISTED.search(by_part),
        text_or_reasoning=bool(written(asked, called)) and not written(asked, thinks),
        whole_tools=bool(written(asked)) and not written(asked, tool=_BARE_TOOL),
    )


def message_of(
    turn: Turn,
    index: int,
    placeholders: Placeholders,
    forms: Forms,
    way: Arguments = Arguments.VALUE,
) -> dict[str, Any]:
    """A turn as a template takes it."""
    content = PLACEHOLDER.format(index)
    entry: dict[str, Any] = {"role": turn.role.value, "content": content}
    reasoning = placeholders.of(turn.reasoning, turn.reasoning_field)
    if turn.text and turn.calls and forms.text_or_reasoning:
        reasoning = ""
    if reasoning:
        entry |= dict.fromkeys(_REASONING, reasoning)
        if turn.calls:
            entry["tool_plan"] = reasoning
    if turn.answers is not None:
        entry["content"] = placeholders.of(turn.text, turn.content_field)
        entry["tool_call_id"] = _shown_id(turn.answers, placeholders)
        entry["name"] = placeholders.of(turn.answers.name, turn.call_field)
    elif turn.calls:
        entry["content"] = content if turn.text else ""
        entry["tool_calls"] = [_call(call, placeholders, way) for call in turn.calls]
    if forms.parts or (reasoning and forms.thinking_part):
        said = [{"type": "text", "text": entry["content"]}] if entry["content"] else []
        thought = {"type": "thinking", "thinking": reasoning}
        entry["content"] = [thought, *said] if reasoning and forms.thinking_part else said
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


def whole_tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """A definition with all that a template may expect of one."""
    function = tool.get("function")
    if not isinstance(function, Mapping):
        return tool
    parameters = function.get("parameters") or {}
    if isinstance(parameters, Mapping):
        parameters = {"type": "object", "properties": {}, "required": [], **parameters}
    function = {**function, "description": function.get("description") or ""}
    return {**tool, "function": {**function, "parameters": parameters}}
