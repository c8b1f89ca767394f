"""A tokenizer's chat template, seen as fixed text with places where messages go.

The template is rendered over placeholders for the messages, so that it never sees, and cannot be
steered by, what a client wrote.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import chain
from types import MappingProxyType
from typing import Any

from extracot.conversation import Role, ToolCall, Turn
from extracot.errors import PromptError
from extracot.template_messages import (
    PLACEHOLDER,
    PROBE_TOOL,
    Arguments,
    Forms,
    find_forms,
    message_of,
    whole_tool,
)
from extracot.tokens import Tokenizer
from extracot.tool_text import Placeholders, Slot

_PLACEHOLDERS = re.compile(r"qXzMessage(\d{6})qXz")

_PROBED = ("system", "user", "assistant", "user")
_LATER_SYSTEM = (
    ("system", "user", "assistant", "user", "system", "user"),
    ("system", "user", "assistant", "system", "user"),
    ("system", "user", "system"),
)
_NONE: Mapping[str, Any] = MappingProxyType({})

Mixed = tuple[str | Slot, ...]
"""A stretch of a prompt that belongs together: fixed text with clients' texts in it, fixed text
first and last."""


@dataclass(frozen=True, slots=True)
class _Trim:
    """Which characters a template takes off the ends of a message; ``None``: all white space."""

    lead: str | None = ""
    tail: str | None = ""


class ChatTemplate:
    """The chat template of one tokenizer. One that writes the date is told ``day``; ``None``: today
    as it renders."""

    def __init__(self, tokenizer: Tokenizer, day: date | None = None) -> None:
        self._tokenizer = tokenizer
        # The name by which a template asks for the day, over what the library has under it.
        self._day = {} if day is None else {"strftime_now": day.strftime}

    @property
    def source(self) -> str:
        """The template as it is written; of several, all of them."""
        found: Any = getattr(self._tokenizer, "chat_template", None) or ""
        return "\n".join(found.values()) if isinstance(found, Mapping) else str(found)

    def layout(
        self, roles: Sequence[str], switches: Mapping[str, Any] = _NONE
    ) -> list[Mixed | int]:
        """The prompt for messages of these roles, up to where the reply begins.

        Fixed text and the index of a message in turn, beginning and ending with fixed text
        (which may be empty). Raises :class:`PromptError` if the template refuses the roles, or
        leaves a message out.
        """
        names = [PLACEHOLDER.format(index) for index in range(len(roles))]
        layout = self._render(roles, names, switches)
        missing = set(range(len(roles))) - {part for part in layout if isinstance(part, int)}
        if missing:
            index = min(missing)
            raise PromptError(f"the chat template leaves out the {roles[index]} message")
        return layout

    def accepts(self, roles: Sequence[str]) -> bool:
        """Whether the template takes messages of these roles."""
        try:
            self.layout(roles)
        except PromptError:
            return False
        return True

    @cached_property
    def takes_later_system(self) -> bool:
        """A system message further on is a turn of its own, marked as the one at the beginning is.

        Many templates write the name of whatever role they are given, so that one is written
        proves nothing: where a model was trained with a system turn, the template shows its mark
        at the beginning, too. What stands before a user's text is no such mark.
        """
        for roles in _LATER_SYSTEM:
            try:
                layout = self.layout(roles)
            except PromptError:
                continue
            if [part for part in layout if isinstance(part, int)] != list(range(len(roles))):
                continue
            before = [_fixed(part) for part in layout[::2]]
            first, user, later = before[0], before[1], before[roles.index("system", 1)]
            start = next(n for n in range(len(later) + 1) if later[n:] in first)
            mark = later[start:]
            if mark.strip() and not user.endswith(mark):
                return True
        return False

    @cached_property
    def takes_tools(self) -> bool:
        """Whether the template writes the definitions of tools into a prompt."""
        turn = Turn(Role.USER, "x", "", "")
        try:
            parts = self.layout_of([turn], [PROBE_TOOL])
        except PromptError:
            return False
        return any(slot.text == "probe" for slot in _slots(parts))

    @cached_property
    def takes_calls(self) -> bool:
        """Whether the template writes a call and its result."""
        call = ToolCall("probe", {}, "probe0001", "call")
        turns = [
            Turn(Role.USER, "x", "", "user"),
            Turn(Role.ASSISTANT, "", "", "assistant", calls=(call,)),
            Turn(Role.TOOL, "x", "", "tool", answers=call, call_field="id"),
        ]
        try:
            self.layout_of(turns, [])
        except PromptError:
            return False
        return True

    def layout_of(
        self,
        turns: Sequence[Turn],
        tools: Sequence[Mapping[str, Any]],
        switches: Mapping[str, Any] = _NONE,
    ) -> list[Mixed | int]:
        """The prompt for turns that may call tools or answer calls, and for definitions of tools.

        Like :meth:`layout`, but a tool's content, the calls, the definitions and what the template
        keeps of the reasoning are in place. A template that fails at reasoning gets none.
        Raises :class:`PromptError` with the field if the template refuses or leaves out any of it.
        """
        ways = [Arguments.VALUE]
        if any(turn.calls for turn in turns):
            ways.append(Arguments.TEXT)
        if any(isinstance(call.arguments, str) for turn in turns for call in turn.calls):
            ways.append(Arguments.OBJECT)
        if self._forms.whole_tools:
            tools = [whole_tool(tool) for tool in tools]
        refusal: PromptError | None = None
        for way in ways:
            try:
                return self._mixed(turns, tools, way, switches)
            except PromptError as error:
                refusal = refusal or error
        if any(turn.reasoning for turn in turns):
            return self.layout_of([t._replace(reasoning="") for t in turns], tools, switches)
        assert refusal is not None
        raise refusal

    def text_of(self, turns: Sequence[Turn], switches: Mapping[str, Any]) -> str:
        """The prompt as text, placeholders for the turns' texts."""
        parts = self.layout_of(turns, (), switches)
        return "".join(f"({part})" if isinstance(part, int) else _fixed(part) for part in parts)

    def slots_of(self, turns: Sequence[Turn], switches: Mapping[str, Any]) -> Iterator[Slot]:
        """What is in the prompt of calls, their results and reasoning."""
        return _slots(self.layout_of(turns, (), switches))

    def _mixed(
        self,
        turns: Sequence[Turn],
        tools: Sequence[Mapping[str, Any]],
        way: Arguments,
        switches: Mapping[str, Any],
    ) -> list[Mixed | int]:
        placeholders = Placeholders()
        entries = [
            message_of(turn, n, placeholders, self._forms, way) for n, turn in enumerate(turns)
        ]
        masked = [
            placeholders.masked(tool, f"tools[{index}]") for index, tool in enumerate(tools)
        ] or None
        parts = _PLACEHOLDERS.split(self._write(entries, {**switches, "tools": masked}))
        layout: list[Mixed | int] = [
            int(part) if n % 2 else tuple(placeholders.split(part)) for n, part in enumerate(parts)
        ]
        _check_complete(turns, layout, placeholders)
        return layout

    def trim(self, role: str, text: str, *, tail: bool = True) -> str:
        """What the template would leave of a message's ends; ``tail=False``: begin only."""
        trim = self._trims.get(role, _Trim())
        if trim.lead != "":
            text = text.lstrip(trim.lead)
        if tail and trim.tail != "":
            text = text.rstrip(trim.tail)
        return text

    def _render(
        self, roles: Sequence[str], contents: Sequence[str], switches: Mapping[str, Any] = _NONE
    ) -> list[Mixed | int]:
        turns, parts = zip(roles, contents, strict=True), self._forms.parts
        conversation: list[dict[str, Any]] = [
            {"role": role, "content": [{"type": "text", "text": text}] if parts else text}
            for role, text in turns
        ]
        written = _PLACEHOLDERS.split(self._write(conversation, switches))
        return [int(part) if n % 2 else (part,) for n, part in enumerate(written)]

    @cached_property
    def _forms(self) -> Forms:
        return find_forms(self._write)

    def _write(self, conversation: list[dict[str, Any]], options: Mapping[str, Any]) -> str:
        try:
            text: str = self._tokenizer.apply_chat_template(
                conversation, tokenize=False, add_generation_prompt=True, **self._day, **options
            )
        except Exception as error:  # a template is foreign code: it may raise anything at all
            reason = " ".join(str(error).split()) or type(error).__name__
            raise PromptError(f"the chat template refuses these messages: {reason}") from error
        return text

    @cached_property
    def _trims(self) -> Mapping[str, _Trim]:
        """What is taken off, by role: tried out once, with one character at a time."""
        roles = next(filter(self.accepts, (_PROBED, _PROBED[1:], _PROBED[-1:])), None)
        if roles is None:  # some write no prompt at all without tools
            return {}
        plain = self.layout(roles)
        lead = {role: "" for role in roles}
        tail = {role: "" for role in roles}
        names = [PLACEHOLDER.format(index) for index in range(len(roles))]
        for space in (" ", "\n", "\t"):
            before = self._render(roles, [space + name for name in names])
            after = self._render(roles, [name + space for name in names])
            for index, role in enumerate(roles):
                at = plain.index(index)
                if space not in lead[role] and before[at - 1] == plain[at - 1]:
                    lead[role] += space
                if space not in tail[role] and after[at + 1] == plain[at + 1]:
                    tail[role] += space
        every = {" \n\t": None}
        return {
            role: _Trim(every.get(lead[role], lead[role]), every.get(tail[role], tail[role]))
            for role in roles
        }


def _fixed(part: Mixed | int) -> str:
    """A part of a layout without clients' texts, which is one text."""
    return str(part[0]) if isinstance(part, tuple) else ""


def _slots(layout: Sequence[Mixed | int]) -> Iterator[Slot]:
    pieces = chain.from_iterable(part for part in layout if isinstance(part, tuple))
    return (piece for piece in pieces if isinstance(piece, Slot))


def _check_complete(
    turns: Sequence[Turn], layout: Sequence[Mixed | int], placeholders: Placeholders
) -> None:
    """Refuse what the template leaves out."""
    shown = {part for part in layout if isinstance(part, int)}
    fields = {slot.field for slot in _slots(layout)}
    for index, turn in enumerate(turns):
        if turn.calls:
            _check_calls(turn.calls, fields, placeholders)
        elif turn.answers is not None:
            if turn.text.strip() and turn.content_field not in fields:
                raise PromptError(
                    "this model's chat template has no tool messages", field=turn.role_field
                )
        elif index not in shown:
            raise PromptError(f"the chat template leaves out the {turn.role.value} message")


def no_calls(calls: Sequence[ToolCall]) -> PromptError:
    """The template has no place for any calls."""
    where = calls[0].field
    if where.endswith(".tool_calls[0]"):  # all of them, where they have a field of their own
        where = where.removesuffix("[0]")
    return PromptError("this model's chat template has no tool calls", field=where)


def _check_calls(
    calls: Sequence[ToolCall], fields: Collection[str], placeholders: Placeholders
) -> None:
    if not any(call.field in fields for call in calls):
        raise no_calls(calls)
    for call in calls:
        text = call.arguments
        if isinstance(text, str) and text and not placeholders.wrote(text, call.field):
            what = "this model's chat template has no place for arguments that are text"
            raise PromptError(what, field=call.field)
