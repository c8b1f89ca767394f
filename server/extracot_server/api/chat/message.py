"""Messages of a chat request: what is no text and no call is refused.

Knows OpenAI's forms; whether a conversation makes sense to a template is the renderer's to say.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from extracot.prompt import Message, ToolCall
from extracot_server.api.body import Body
from extracot_server.api.conversation import read_arguments, text_of
from extracot_server.errors import InvalidRequestError

_ROLES = ("system", "developer", "user", "assistant", "tool")
TOOL_CALL_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["id", "type", "function"],
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "required": ["name", "arguments"],
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "arguments": {"type": "string", "description": "JSON text of an object"},
            },
        },
    },
}


class ChatMessage(Body):
    """One message; ``content`` is text or a list of text parts."""

    role: str = Field(
        description="system or developer (first only), user, assistant, or tool; the last message "
        "is a user's or a tool's",
        json_schema_extra={"enum": ["system", "developer", "user", "assistant", "tool"]},
    )
    content: str | list[dict[str, Any]] | None = Field(
        None,
        description="text, or text parts that are joined",
        json_schema_extra={
            "anyOf": [
                {"type": "string"},
                {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["type", "text"],
                        "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
                    },
                },
                {"type": "null"},
            ]
        },
    )
    tool_calls: list[dict[str, Any]] | None = Field(
        None,
        description="of an assistant: the calls as they came in its reply",
        json_schema_extra={
            "anyOf": [{"type": "array", "items": TOOL_CALL_SCHEMA}, {"type": "null"}]
        },
    )
    tool_call_id: str | None = Field(None, description="of a tool: the call that this answers")


def read_message(message: ChatMessage, index: int) -> Message:
    """One message as the renderer takes it; raises :class:`InvalidRequestError` with its field."""
    where = f"messages[{index}]"
    if message.role not in _ROLES:
        raise InvalidRequestError(
            f"`{where}.role` is {message.role[:40]!r}. Allowed: {', '.join(_ROLES)}.",
            param=f"{where}.role",
        )
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
        raise InvalidRequestError(
            f"`{where}.tool_call_id` is missing: which call does it answer?",
            param=f"{where}.tool_call_id",
        )
    content = message.content
    if content is None and message.role == "assistant":
        content = ""
    text = text_of(content, f"{where}.content")
    return Message(message.role, text, tuple(calls), message.tool_call_id or "")


def _call(call: dict[str, Any], where: str) -> ToolCall:
    function = call.get("function")
    if call.get("type", "function") != "function" or not isinstance(function, dict):
        raise InvalidRequestError(
            f"`{where}` must be a call of a function: id, type and function.", param=where
        )
    name, call_id = function.get("name"), call.get("id")
    if not isinstance(name, str) or not name:
        raise InvalidRequestError(
            f"`{where}.function.name` must be a name.", param=f"{where}.function.name"
        )
    if not isinstance(call_id, str) or not call_id:
        raise InvalidRequestError(f"`{where}.id` must be a text.", param=f"{where}.id")
    arguments = function.get("arguments")
    return ToolCall(name, read_arguments(arguments, f"{where}.function.arguments"), call_id)
