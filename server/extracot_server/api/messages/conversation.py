"""From the messages of ``POST /v1/messages`` to those of a chat: blocks become messages.

Knows what Anthropic's Messages API calls things; what a template makes of them is the renderer's
to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from extracot.conversation import BETWEEN
from extracot.prompt import Fields, Message, ToolCall
from extracot_server.api.contents import (
    Content,
    add_part,
    in_runs,
    last_place,
    read_arguments,
    read_content,
    require_text,
)
from extracot_server.api.earlier_reasoning import EarlierReasoning
from extracot_server.budget.values import shown
from extracot_server.errors import InvalidRequestError

_TEXT = ("text",)
_WHOSE = {"tool_use": "assistant", "tool_result": "user"}


class Spoken(Protocol):
    """One of ``messages``."""

    role: Any
    content: str | list[dict[str, Any]]


def read_conversation(
    system: str | list[dict[str, Any]] | None,
    spoken: Sequence[Spoken],
    thoughts: EarlierReasoning,
) -> list[Message]:
    """The conversation of ``system`` and ``messages``.

    Raises :class:`InvalidRequestError` for a block that can't be read where it stands.
    """
    messages: list[Message] = []
    if system:
        # Clients send paragraphs of their own as blocks, without line breaks between them.
        text = read_content(system, "system", _TEXT, strict=True, between=BETWEEN).text
        messages.append(Message("system", text, field="system"))
    asked = last_place(map(_asks, spoken))
    for index, message in enumerate(spoken):
        messages += _turns(message, f"messages[{index}]", thoughts, newest=index == asked)
    return in_runs(messages, _goes_on)


def _goes_on(run: Sequence[Message], found: Message) -> bool:
    """The same one speaks on; what an assistant says after its calls is a turn of its own."""
    if found.role not in ("user", "assistant") or found.role != run[-1].role:
        return False
    return not (found.content and run[-1].tool_calls)


def _asks(message: Spoken) -> bool:
    """The user says something, and not only a tool."""
    content = message.content
    return message.role == "user" and (
        isinstance(content, str)
        or not content
        or any(block.get("type") != "tool_result" for block in content)
    )


def _turns(
    message: Spoken, where: str, thoughts: EarlierReasoning, *, newest: bool
) -> list[Message]:
    """The chat messages of one message: results of tools come before what the user says."""
    role, content = message.role, message.content
    if isinstance(content, str):
        return [Message(role, content, field=where)]
    said = Content("" if role == "assistant" else "\n")
    calls: list[ToolCall] = []
    results: list[Message] = []
    for index, block in enumerate(content):
        at = f"{where}.content[{index}]"
        kind = block.get("type")
        if isinstance(kind, str) and _WHOSE.get(kind, role) != role:
            what = f"is {shown(kind)}, which a message of the {role} can't hold."
            raise InvalidRequestError.of(f"{at}.type", what)
        match kind:
            case "tool_use":
                calls.append(_call(block, at))
            case "tool_result":
                results.append(_result(block, at))
            case "compaction" if role == "assistant" and isinstance(block.get("content"), str):
                said.add(block["content"])
            case _:
                reply = thoughts if role == "assistant" else None
                strict = newest or role == "system"
                add_part(said, block, at, _TEXT, strict=strict, reply=reply)
    if results and not said.text:
        return results
    omitted, reasoning = tuple(said.omitted), BETWEEN.join(said.thoughts) or None
    own = Message(role, said.text, tuple(calls), "", where, None, omitted, reasoning)
    return [*results, own]


def _call(block: dict[str, Any], at: str) -> ToolCall:
    require_text(block, ["id", "name"], at)
    given = block.get("input")
    if not (given is None or isinstance(given, str | dict)):
        raise InvalidRequestError.of(f"{at}.input", "must be an object.")
    return ToolCall(block["name"], read_arguments(given, f"{at}.input"), block["id"], at)


def found_tools(spoken: Sequence[Spoken]) -> Iterator[str]:
    """The names of the tools that results of tools refer to: what a search for tools has found."""
    for message in spoken:
        for block in message.content if isinstance(message.content, list) else ():
            results = block.get("content") if block.get("type") == "tool_result" else None
            for part in results if isinstance(results, list) else ():
                if _refers(part):
                    yield part["tool_name"]


def _refers(part: Any) -> bool:
    """A block that stands for the definition of a tool."""
    if not isinstance(part, dict) or part.get("type") != "tool_reference":
        return False
    return isinstance(part.get("tool_name"), str)


def _result(block: dict[str, Any], at: str) -> Message:
    require_text(block, ["tool_use_id"], at)
    given = block.get("content")
    if isinstance(given, list):
        given = [{"type": "text", "text": p["tool_name"]} if _refers(p) else p for p in given]
    content = read_content(given, f"{at}.content", _TEXT)
    text = content.text
    if block.get("is_error") is True:
        text = f"Error: {text}" if text else "Error"
    fields = Fields(f"{at}.type", f"{at}.content", f"{at}.tool_use_id")
    omitted = tuple(content.omitted)
    return Message("tool", text, (), block["tool_use_id"], at, fields, omitted)
