"""Messages of a chat request, as far as they are text and tool calls.

Knows OpenAI's forms; whether a conversation makes sense to a template is the renderer's to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from extracot.conversation import BETWEEN
from extracot.prompt import Message, ToolCall
from extracot_server.api.body import Body, described_as
from extracot_server.api.contents import (
    Content,
    last_place,
    read_arguments,
    read_content,
    read_free_text,
    require_text,
)
from extracot_server.api.earlier_reasoning import EarlierReasoning, agreed
from extracot_server.budget.values import shown
from extracot_server.errors import InvalidRequestError

Role = Literal["system", "developer", "user", "assistant", "tool"]
_ROLES = get_args(Role)
_REASONING = ("reasoning", "reasoning_content", "reasoning_details")


class TextPart(Body):
    """A part of a content."""

    type: Literal["text"]
    text: str


class CalledFunctionParam(Body):
    """A function and its arguments."""

    name: str = Field(min_length=1)
    arguments: str = Field(description="JSON text of an object; other text stays text")


class ToolCallParam(Body):
    """A call as it came in a reply."""

    id: str = Field(min_length=1)
    type: Literal["function"]
    function: CalledFunctionParam


class ChatMessage(Body):
    """One message; ``content`` is text or a list of text parts."""

    role: Annotated[str, described_as(Role)] = Field(
        description="system or developer, user, assistant, or tool; the last message is not an "
        "assistant's, and one is a user's"
    )
    content: Annotated[
        str | list[dict[str, Any]] | None,
        described_as(str | Annotated[list[TextPart], Field(min_length=1)] | None),
    ] = Field(
        None,
        description="text, or text parts, which have a line each; other parts stand in earlier "
        "messages only, and the prompt mentions them",
    )
    tool_calls: Annotated[list[dict[str, Any]] | None, described_as(list[ToolCallParam] | None)] = (
        Field(None, description="assistant only: the calls, as in the reply")
    )
    tool_call_id: str | None = Field(None, description="tool only: id of the call answered")
    reasoning: str | None = Field(
        None, description="assistant only: its reasoning, which the chat template may keep"
    )
    reasoning_content: str | None = Field(None, description="the same by another name")
    reasoning_details: list[dict[str, Any]] | None = Field(
        None, description="the same in OpenRouter's parts"
    )


def read_messages(messages: Sequence[ChatMessage], thoughts: EarlierReasoning) -> list[Message]:
    """The messages as the renderer takes them; :class:`InvalidRequestError` names a field."""
    asked = last_place(message.role == "user" for message in messages)
    return [
        _message(message, f"messages[{index}]", thoughts, newest=index == asked)
        for index, message in enumerate(messages)
    ]


def _message(
    message: ChatMessage, where: str, thoughts: EarlierReasoning, *, newest: bool
) -> Message:
    role, more = message.role, message.model_extra or {}
    if role not in _ROLES:
        what = f"is {shown(role)}. Allowed: {', '.join(_ROLES)}."
        raise InvalidRequestError.of(f"{where}.role", what)
    if more.get("function_call"):
        raise InvalidRequestError(
            "`function_call` is not supported by this server; use `tool_calls`.",
            param=f"{where}.function_call",
            code="unsupported_parameter",
        )
    calls = [
        _call(call, f"{where}.tool_calls[{n}]") for n, call in enumerate(message.tool_calls or ())
    ]
    if role == "tool" and not message.tool_call_id:
        what = "is missing; it names the call that is answered."
        raise InvalidRequestError.of(f"{where}.tool_call_id", what)
    reply = thoughts if role == "assistant" else None
    strict = newest or role in ("system", "developer")
    if role == "user" and message.content is None:
        strict = True
    content = read_content(message.content, f"{where}.content", strict=strict, reply=reply)
    reasoning = None
    if reply is not None:
        reasoning = _reasoning(message, where, content, reply)
        if isinstance(more.get("refusal"), str) and not content.text:
            content.add(more["refusal"])
        if more.get("audio"):
            content.mention("audio", f"{where}.audio")
    answered = message.tool_call_id or ""
    if more.get("name") and role != "tool":  # a tool's is that of the call, which has it
        content.omitted.append(f"{where}.name")
    omitted = tuple(content.omitted)
    return Message(role, content.text, tuple(calls), answered, omitted=omitted, reasoning=reasoning)


def _reasoning(
    message: ChatMessage, where: str, content: Content, thoughts: EarlierReasoning
) -> str | None:
    """What came with an assistant's message, under any of its names."""
    fields = {**(message.model_extra or {}), **message.model_dump(include={*_REASONING})}
    found = thoughts.of_message(fields, where)
    if content.thoughts:
        found.append((f"{where}.content", BETWEEN.join(content.thoughts)))
    return agreed(found)


def _call(call: dict[str, Any], where: str) -> ToolCall:
    """A call; one of a tool that takes free text has it as its arguments."""
    kind = call.get("type") or "function"
    called = call.get(kind) if kind in ("function", "custom") else None
    if not isinstance(called, dict):
        raise InvalidRequestError.of(where, "must be a call of a function: id, type and function.")
    require_text(call, ("id",), where)
    at = f"{where}.{kind}"
    require_text(called, ("name",), at)
    if kind == "function":
        arguments = read_arguments(called.get("arguments"), f"{at}.arguments")
        return ToolCall(called["name"], arguments, call["id"])
    return ToolCall(called["name"], read_free_text(called, at), call["id"])
