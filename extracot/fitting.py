"""Fits a conversation to a chat template: what it refuses as it stands is put in a form it takes.

Nothing is left out and nothing changes places. Tried in turn, until the template takes it:

1. As it is. A system message that is not at the beginning must be written where it stands, as a
   turn like the one at the beginning.
2. System messages further on are the user's text, joined with the user's turns beside them.
3. Turns of one role in a row are one, a blank line between their texts.
4. An empty turn of the user comes before an assistant's that begins the conversation.

All of it is tried once more with the system message at the beginning as the user's text, for
templates that have none. Knows nothing of tokens and instructions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any

from extracot.conversation import Role, Turn, joined
from extracot.errors import PromptError
from extracot.template import ChatTemplate, Mixed, no_calls

Layout = list[Mixed | int]


def fit(
    template: ChatTemplate,
    turns: Sequence[Turn],
    tools: Sequence[Mapping[str, Any]],
    field: str,
    own_system: bool = False,
    switches: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[list[Turn], Layout]:
    """The turns in the first form that the template takes, and its layout of them.

    ``own_system``: the first turn is ours and no client's, so it stays what it is. Raises
    :class:`PromptError` with what the template says to the turns as they are; ``field`` is the
    conversation.
    """
    refusal: PromptError | None = None
    for form in _forms(template, list(turns), own_system):
        try:
            return form, _layout(template, form, tools, switches)
        except PromptError as error:
            if refusal is None or (refusal.field is None and error.field is not None):
                refusal = error
    assert refusal is not None
    if refusal.field is not None:
        raise refusal
    calls = [call for turn in turns for call in turn.calls]
    if calls and not template.takes_calls:
        raise no_calls(calls)
    if own_system and not (tools or calls) and template.accepts([t.role for t in turns[1:]]):
        where = turns[0].role_field
        raise PromptError("this model's chat template takes no system message", field=where)
    raise PromptError(str(refusal), field=field)


def _layout(
    template: ChatTemplate,
    turns: Sequence[Turn],
    tools: Sequence[Mapping[str, Any]],
    switches: Mapping[str, Any],
) -> Layout:
    if tools or any(turn.calls or turn.reasoning for turn in turns):
        layout = template.layout_of(turns, tools, switches)
    else:
        layout = template.layout([turn.role.value for turn in turns], switches)
    places = [part for part in layout if isinstance(part, int)]
    for index, turn in enumerate(turns):
        if turn.role is Role.SYSTEM and index > 0:
            at = places.index(index)
            if any(n > index for n in places[:at]) or any(0 < n < index for n in places[at:]):
                raise PromptError("the chat template moves a system message")
    return layout


def _forms(template: ChatTemplate, turns: list[Turn], own_system: bool) -> Iterator[list[Turn]]:
    """Ways to put a conversation, each once."""
    later = any(turn.role is Role.SYSTEM for turn in turns[1:])
    tried: list[list[Turn]] = []
    if not later or template.takes_later_system:
        tried.append(turns)
        yield turns
    for keeps_first in (True,) if own_system else (True, False):
        told = _as_users(turns, keeps_first)
        merged = _merged(told)
        for form in (told, merged, _opened(merged)):
            if form not in tried:
                tried.append(form)
                yield form


def _as_users(turns: Sequence[Turn], keeps_first: bool) -> list[Turn]:
    """System messages as the user's text, joined with the user's turns beside them."""
    told = [
        turn._replace(role=Role.USER)
        if turn.role is Role.SYSTEM and (index > 0 or not keeps_first)
        else turn
        for index, turn in enumerate(turns)
    ]
    parts: list[Turn] = []
    for is_user, run in groupby(range(len(told)), key=lambda index: told[index].role is Role.USER):
        indices = list(run)
        same = [told[index] for index in indices]
        changed = any(turns[index].role is Role.SYSTEM for index in indices)
        parts += [joined(same)] if is_user and changed else same
    return parts


def _merged(turns: Sequence[Turn]) -> list[Turn]:
    """One turn for each run of the user's turns or of the assistant's; calls end a turn."""
    runs: list[list[Turn]] = []
    for turn in turns:
        last = runs[-1][-1] if runs else None
        spoken = turn.role in (Role.USER, Role.ASSISTANT)
        if last is not None and spoken and last.role is turn.role and not last.calls:
            runs[-1].append(turn)
        else:
            runs.append([turn])
    return [joined(run) if len(run) > 1 else run[0] for run in runs]


def _opened(turns: Sequence[Turn]) -> list[Turn]:
    """An empty turn of the user first, where it would be the assistant's."""
    at = 1 if turns[0].role is Role.SYSTEM else 0
    if turns[at].role is not Role.ASSISTANT:
        return list(turns)
    where = turns[at]
    return [*turns[:at], Turn(Role.USER, "", where.role_field, where.content_field), *turns[at:]]
