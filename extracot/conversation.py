"""A client's conversation, checked and reduced to what a prompt needs.

Knows roles, contents and think blocks; nothing of templates, tokens or instructions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from extracot.errors import PromptError
from extracot.reasoning import ThinkTags, split_reasoning
from extracot.tokens import check_unicode


class Role(StrEnum):
    """Who speaks. A ``developer`` message is read as a ``system`` one."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


_ROLES = {**{role.value: role for role in Role}, "developer": Role.SYSTEM}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that an assistant's message called; ``arguments`` is its JSON object, read."""

    name: str
    arguments: Mapping[str, Any]
    id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. The content of an assistant's is its answer; a leading think block is dropped.

    ``tool_calls`` go with an assistant's, ``tool_call_id`` with a tool's: which call it answers.
    ``field`` names the message in errors, where it is not its place in the list: another one's
    place (``input[2]``), or the field that is all of it (``instructions``).
    """

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    field: str = ""


class Turn(NamedTuple):
    """A message on its way into a prompt; ``token_id``, if any, ends it."""

    role: Role
    text: str
    role_field: str
    content_field: str
    token_id: int | None = None
    calls: tuple[ToolCall, ...] = ()
    answers: ToolCall | None = None
    """The call that a tool's turn answers."""


def read_messages(
    messages: Sequence[Message],
    tags: ThinkTags,
    control_tokens: Collection[str],
    field: str = "messages",
) -> list[Turn]:
    """The turns of a conversation (``field`` names it), earlier replies without their reasoning.

    Raises :class:`PromptError`, which names the field, for a conversation that is empty, has no
    user message, does not end with the user or a tool or has a system message anywhere but first,
    for an unknown role, for a tool message that answers no call before it, and for a content that
    is not valid Unicode, or empty where it is a user's.
    """
    if not messages:
        raise PromptError("at least one message is needed", field=field)
    turns = [
        _turn(message, message.field or f"{field}[{index}]", index > 0, tags, control_tokens)
        for index, message in enumerate(messages)
    ]
    turns = [_answering(turn, turns[:index], messages[index]) for index, turn in enumerate(turns)]
    if turns[-1].role not in (Role.USER, Role.TOOL):
        raise PromptError("the last message must be the user's", field=turns[-1].role_field)
    if all(turn.role is not Role.USER for turn in turns):
        raise PromptError("a message of the user is needed", field=field)
    return turns


def _turn(
    message: Message, where: str, later: bool, tags: ThinkTags, control_tokens: Collection[str]
) -> Turn:
    role_field = content_field = where
    if where.endswith("]"):  # an element of a list has parts, a field that is a text has none
        role_field, content_field = f"{where}.role", f"{where}.content"
    role = _ROLES.get(message.role)
    if role is None:
        allowed = ", ".join(_ROLES)
        raise PromptError(f"{message.role!r} is not one of {allowed}", field=role_field)
    if role is Role.SYSTEM and later:
        raise PromptError("a system message must be the first", field=role_field)
    if message.tool_calls and role is not Role.ASSISTANT:
        raise PromptError("go with an assistant's message", field=f"{where}.tool_calls")
    text = message.content
    if not text and role is Role.USER:
        raise PromptError("must not be empty", field=content_field)
    check_unicode(text, content_field)
    if role is Role.ASSISTANT:
        text = _without_reasoning(text, tags, control_tokens)
    return Turn(role, text, role_field, content_field, calls=message.tool_calls)


def _answering(turn: Turn, before: Sequence[Turn], message: Message) -> Turn:
    """A tool's turn with the call it answers, one of the assistant's message just before it."""
    if turn.role is not Role.TOOL:
        return turn
    calls = next((other.calls for other in reversed(before) if other.role is not Role.TOOL), ())
    if not calls:
        raise PromptError(
            "a tool's message must follow an assistant's with tool_calls", field=turn.role_field
        )
    found = next((call for call in calls if call.id == message.tool_call_id), None)
    if found is None:
        where = turn.role_field.removesuffix("role") + "tool_call_id"
        raise PromptError("names none of the calls before it", field=where)
    return turn._replace(answers=found)


def _without_reasoning(reply: str, tags: ThinkTags, control_tokens: Collection[str]) -> str:
    """An earlier reply as templates want it: the answer alone, no level, no think block."""
    text = reply.lstrip()
    for token in control_tokens:
        if text.startswith(token):
            text = reply = text.removeprefix(token).lstrip()
            break
    return split_reasoning(text, tags).answer if text.startswith(tags.start) else reply
