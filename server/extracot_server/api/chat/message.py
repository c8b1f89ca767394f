"""Messages of a chat request: only text and tool calls are accepted.

Knows OpenAI's forms; whether a conversation makes sense to a template is the renderer's to say.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from extracot.prompt import Message, ToolCall
from extracot_server.api.body import Body, described_as
from extracot_server.api.conversation import read_arguments, text_of
from extracot_server.budget.values import shown
from extracot_server.errors import InvalidRequestError

Role = Literal["system", "developer", "user", "assistant", "tool"]
_ROLES = get_args(Role)


class TextPart(Body):
    """A part of a content."""

    type: Literal["text"]
    text: str


class CalledFunctionParam(Body):
    """A function and its arguments."""

    name: str = Field(min_length=1)
    arguments: str = Field(description="JSON text of an object")


class ToolCallParam(Body):
    """A call as it came in a reply."""

    id: str = Field(min_length=1)
    type: Literal["function"]
    function: CalledFunctionParam


class ChatMessage(Body):
    """One message; ``content`` is text or a list of text parts."""

    role: Annotated[str, described_as(Role)] = Field(
        description="system or developer (first only), user, assistant, or tool; the last message "
        "is a user's or a tool's"
    )
    content: Annotated[
        str | list[dict[str, Any]] | None,
        described_as(str | Annotated[list[TextPart], Field(min_length=1)] | None),
    ] = Field(None, description="text, or text parts that are joined")
    tool_calls: Annotated[list[dict[str, Any]] | None, described_as(list[ToolCallParam] | None)] = (
        Field(None, description="assistant only: the calls, as in the reply")
    )
    tool_call_id: str | None = Field(None, description="tool only: id of the call answered")


def read_message(message: ChatMessage, index: int) -> Message:
    """One message as the renderer takes it; raises :class:`InvalidRequestError` with its field."""
    where = f"messages[{index}]"
    if message.role not in _ROLES:
        what = f"is {shown(message.role)}. Allowed: {', '.join(_ROLES)}."
        raise InvalidRequestError.of(f"{where}.role", what)
    if (message.model_extra or {}).get("function_call"):
        raise InvalidRequestError(
            "`function_call` is not supported by this server; use `tool_calls`.",
            param=f"{where}.function_call",
            code="unsupported_parameter",
        )
    calls = [
        _call(call, f"{where}.tool_calls[{n}]") for n, call in enumerate(message.tool_calls or ())
    ]
    if message.role == "tool" and not message.tool_call_id:
        what = "is missing; it names the call that is answered."
        raise InvalidRequestError.of(f"{where}.tool_call_id", what)
    content = message.content
    if content is None and message.role == "assistant":
        content = ""
    text = text_of(content, f"{where}.content")
    return Message(message.role, text, tuple(calls), message.tool_call_id or "")


def _call(call: dict[str, Any], where: str) -> ToolCall:
    function = call.get("function")
    if call.get("type", "function") != "function" or not isinstance(function, dict):
        raise InvalidRequestError.of(where, "must be a call of a function: id, type and function.")
    name, call_id = function.get("name"), call.get("id")
    if not isinstance(name, str) or not name:
        raise InvalidRequestError.of(f"{where}.function.name", "must be a name.")
    if not isinstance(call_id, str) or not call_id:
        raise InvalidRequestError.of(f"{where}.id", "must be a text.")
    arguments = function.get("arguments")
    return ToolCall(name, read_arguments(arguments, f"{where}.function.arguments"), call_id)
