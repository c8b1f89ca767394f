"""What a client may send as a conversation, checked and reduced to what a prompt takes.

Knows roles, contents and think blocks; nothing of templates, tokens or instructions.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from extracot.errors import PromptError
from extracot.reasoning import ThinkTags, split_reasoning
from extracot.tokens import is_unicode


class Role(StrEnum):
    """Who speaks. A ``developer`` message is read as a ``system`` one."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


_ROLES = {**{role.value: role for role in Role}, "developer": Role.SYSTEM}


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. The content of an assistant's is its answer; a leading think block is dropped."""

    role: str
    content: str


class Turn(NamedTuple):
    """A message on its way into a prompt; ``token_id``, if any, ends it."""

    role: Role
    text: str
    role_field: str
    content_field: str
    token_id: int | None = None


def read_messages(
    messages: Sequence[Message], tags: ThinkTags, control_tokens: Collection[str]
) -> list[Turn]:
    """The turns of a conversation, earlier replies without their reasoning.

    Raises :class:`PromptError`, which names the field, for a conversation that is empty, does
    not end with the user or has a system message anywhere but first, for an unknown role, and
    for a content that is not valid Unicode, or empty where it is a user's.
    """
    if not messages:
        raise PromptError("at least one message is needed", field="messages")
    turns = [_turn(message, index, tags, control_tokens) for index, message in enumerate(messages)]
    if turns[-1].role is not Role.USER:
        raise PromptError("the last message must be the user's", field=turns[-1].role_field)
    return turns


def _turn(message: Message, index: int, tags: ThinkTags, control_tokens: Collection[str]) -> Turn:
    role_field, content_field = f"messages[{index}].role", f"messages[{index}].content"
    role = _ROLES.get(message.role)
    if role is None:
        allowed = ", ".join(_ROLES)
        raise PromptError(f"{message.role!r} is not one of {allowed}", field=role_field)
    if role is Role.SYSTEM and index > 0:
        raise PromptError("a system message must be the first", field=role_field)
    text = message.content
    if not text and role is Role.USER:
        raise PromptError("must not be empty", field=content_field)
    if not is_unicode(text):
        raise PromptError(
            "holds a lone surrogate, which is not valid Unicode text", field=content_field
        )
    if role is Role.ASSISTANT:
        text = _without_reasoning(text, tags, control_tokens)
    return Turn(role, text, role_field, content_field)


def _without_reasoning(reply: str, tags: ThinkTags, control_tokens: Collection[str]) -> str:
    """An earlier reply as templates want it: the answer alone, no level, no think block."""
    text = reply.lstrip()
    for token in control_tokens:
        if text.startswith(token):
            text = reply = text.removeprefix(token).lstrip()
            break
    return split_reasoning(text, tags).answer if text.startswith(tags.start) else reply
