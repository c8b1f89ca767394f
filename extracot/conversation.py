"""A client's conversation, checked and reduced to what a prompt needs.

Knows roles, contents and think blocks; nothing of templates, tokens or instructions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

from extracot.errors import PromptError
from extracot.reasoning import ThinkTags, split_reasoning
from extracot.tokens import check_unicode

BETWEEN = "\n\n"
"""What stands between texts that become one turn."""


class Role(StrEnum):
    """Who speaks. A ``developer`` message is read as a ``system`` one."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


_ROLES = {**{role.value: role for role in Role}, "developer": Role.SYSTEM}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that an assistant's message called; ``arguments`` is its JSON object, read.

    Arguments that are no JSON object (a reply that was cut off) are the text itself. ``field``
    names the call in errors, where it is not its place in its message's ``tool_calls``.
    """

    name: str
    arguments: Mapping[str, Any] | str
    id: str = ""
    field: str = ""


class Fields(NamedTuple):
    """What an API calls the parts of a message, where it is not ``.role`` and the like."""

    role: str
    content: str
    call_id: str
    """Which call a tool's message answers."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. The content of an assistant's is its answer.

    ``reasoning`` is what an assistant reasoned before it; ``None`` where the client gave none: then
    it is the leading think block of the content, if there is one. A chat template decides which
    turns keep theirs in a prompt.
    ``tool_calls`` go with an assistant's, ``tool_call_id`` with a tool's: which call it answers.
    ``field`` names the message in errors, where it is not its place in the list: another one's
    place (``input[2]``), or the field that is all of it (``instructions``); ``fields`` names its
    parts. ``omitted`` are the fields of what it held and its content only mentions.
    """

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    field: str = ""
    fields: Fields | None = None
    omitted: tuple[str, ...] = ()
    reasoning: str | None = None


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
    call_field: str = ""
    reasoning: str = ""
    """What an assistant reasoned before it said this."""
    reasoning_field: str = ""


def read_messages(
    messages: Sequence[Message],
    tags: ThinkTags,
    control_tokens: Collection[str],
    field: str = "messages",
) -> list[Turn]:
    """The turns of a conversation (``field`` names it), earlier replies apart from their reasoning.

    System messages at the beginning are one turn. One that comes after the last answer, with
    nothing of the user's after that answer, is what the reply is for, so it is the user's.

    Raises :class:`PromptError`, which names the field, for a conversation that is empty, has no
    user message or ends with the assistant, for an unknown role, for a tool message that answers
    no call before it, and for a content that is not valid Unicode, or empty where it is the
    user's last.
    """
    if not messages:
        raise PromptError("at least one message is needed", field=field)
    turns = [
        _turn(message, message.field or f"{field}[{index}]", tags, control_tokens)
        for index, message in enumerate(messages)
    ]
    if any(turn.role is Role.TOOL for turn in turns):
        turns = _answering(turns, messages)
    users = [turn for turn in turns if turn.role is Role.USER]
    if turns[-1].role is Role.ASSISTANT or (not users and turns[-1].role is Role.SYSTEM):
        raise PromptError("the last message must be the user's", field=turns[-1].role_field)
    if not users:
        raise PromptError("a message of the user is needed", field=field)
    turns = _with_last_user(turns)
    asked = next(turn for turn in reversed(turns) if turn.role is Role.USER)
    if not asked.text:
        raise PromptError("must not be empty", field=asked.content_field)
    return _joined_beginning(turns)


def _turn(message: Message, where: str, tags: ThinkTags, control_tokens: Collection[str]) -> Turn:
    fields = message.fields
    if fields is None and where.endswith("]"):  # an element of a list has parts
        fields = Fields(f"{where}.role", f"{where}.content", f"{where}.tool_call_id")
    elif fields is None:  # a field that is a text has none
        fields = Fields(where, where, where)
    role = _ROLES.get(message.role)
    if role is None:
        allowed = ", ".join(_ROLES)
        raise PromptError(f"{message.role!r} is not one of {allowed}", field=fields.role)
    if message.tool_calls and role is not Role.ASSISTANT:
        raise PromptError("go with an assistant's message", field=f"{where}.tool_calls")
    text = message.content
    check_unicode(text, fields.content)
    reasoning, reasoning_field = message.reasoning, f"{where}.reasoning"
    if reasoning and role is not Role.ASSISTANT:
        raise PromptError("goes with an assistant's message", field=reasoning_field)
    if role is Role.ASSISTANT:
        found, text = _split_reply(text, tags, control_tokens)
        if reasoning is None:
            reasoning, reasoning_field = found, fields.content
        check_unicode(reasoning, reasoning_field)
    calls = tuple(
        call if call.field else replace(call, field=f"{where}.tool_calls[{index}]")
        for index, call in enumerate(message.tool_calls)
    )
    return Turn(
        role,
        text,
        fields.role,
        fields.content,
        calls=calls,
        call_field=fields.call_id,
        reasoning=reasoning or "",
        reasoning_field=reasoning_field,
    )


def _answering(turns: Sequence[Turn], messages: Sequence[Message]) -> list[Turn]:
    """Tools' turns with the calls they answer: of calls by that id, the last one made.

    Of several in one message, it is the first that has no answer yet.
    """
    made: dict[str, list[ToolCall]] = {}
    answered: list[Turn] = []
    for turn, message in zip(turns, messages, strict=True):
        latest: dict[str, list[ToolCall]] = {}
        for call in turn.calls:
            latest.setdefault(call.id, []).append(call)
        made |= latest
        if turn.role is Role.TOOL:
            waiting = made.get(message.tool_call_id)
            if waiting is None:
                raise _unanswerable(turn, message, bool(made))
            found = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            turn = turn._replace(answers=found)
        answered.append(turn)
    return answered


def _unanswerable(turn: Turn, message: Message, any_call: bool) -> PromptError:
    if any_call:
        return PromptError("names none of the calls before it", field=turn.call_field)
    return PromptError(
        "a tool's message must follow an assistant's with tool_calls"
        if message.fields is None
        else "names a call, but there is none before it",
        field=turn.role_field if message.fields is None else turn.call_field,
    )


def _with_last_user(turns: list[Turn]) -> list[Turn]:
    """The turns, the last system message as the user's where nothing else is unanswered."""
    last_said: int | None = None
    for index, turn in reversed(list(enumerate(turns))):
        if turn.role is Role.USER:
            break
        if turn.role is Role.SYSTEM and turn.text and last_said is None:
            last_said = index
        if turn.role is Role.ASSISTANT and not turn.calls:
            if last_said is not None:
                turns[last_said] = turns[last_said]._replace(role=Role.USER)
            break
    return turns


def _joined_beginning(turns: list[Turn]) -> list[Turn]:
    """The turns, with the system messages that they begin with as one."""
    count = next(n for n, turn in enumerate(turns) if turn.role is not Role.SYSTEM)
    return [joined(turns[:count]), *turns[count:]] if count > 1 else turns


def joined(turns: Sequence[Turn]) -> Turn:
    """Turns of one role as one, a blank line between their texts."""
    first = turns[0]
    return first._replace(
        text=BETWEEN.join(turn.text for turn in turns if turn.text),
        calls=tuple(call for turn in turns for call in turn.calls),
        reasoning=BETWEEN.join(turn.reasoning for turn in turns if turn.reasoning),
        reasoning_field=next((t.reasoning_field for t in turns if t.reasoning), ""),
    )


def _split_reply(reply: str, tags: ThinkTags, control_tokens: Collection[str]) -> tuple[str, str]:
    """Reasoning and answer of an earlier reply, without the level that it may begin with."""
    text = reply.lstrip()
    for token in control_tokens:
        if text.startswith(token):
            text = reply = text.removeprefix(token).lstrip()
            break
    if not text.startswith(tags.start):
        return "", reply
    found = split_reasoning(text, tags)
    return found.reasoning, found.answer
