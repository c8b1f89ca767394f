"""A tokenizer's chat template, seen as fixed text with places where messages go.

The template is rendered over placeholders for the messages, so that it never sees, and cannot be
steered by, what a client wrote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

from extracot.conversation import Role, ToolCall, Turn
from extracot.errors import PromptError
from extracot.tokens import Tokenizer
from extracot.tool_text import Placeholders, Slot

# Letters and digits only: no template trims, escapes or looks for these.
_PLACEHOLDER = "qXzMessage{:06d}qXz"
_PLACEHOLDERS = re.compile(r"qXzMessage(\d{6})qXz")

_PROBED = ("system", "user", "assistant", "user")
_PROBE_TOOL = {"type": "function", "function": {"name": "probe", "parameters": {"type": "object"}}}

Mixed = tuple[str | Slot, ...]
"""A stretch of a prompt that belongs together: fixed text with clients' texts in it, fixed text
first and last."""


@dataclass(frozen=True, slots=True)
class _Trim:
    """Which characters a template takes off the ends of a message; ``None``: all white space."""

    lead: str | None = ""
    tail: str | None = ""


class ChatTemplate:
    """The chat template of one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def layout(self, roles: Sequence[str]) -> list[Mixed | int]:
        """The prompt for messages of these roles, up to where the reply begins.

        Fixed text and the index of a message in turn, beginning and ending with fixed text
        (which may be empty). Raises :class:`PromptError` if the template refuses the roles, or
        leaves a message out.
        """
        layout = self._render(roles, [_PLACEHOLDER.format(index) for index in range(len(roles))])
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
    def takes_tools(self) -> bool:
        """Whether the template writes the definitions of tools into a prompt."""
        turn = Turn(Role.USER, "x", "", "")
        try:
            parts = self.layout_with_tools([turn], [_PROBE_TOOL])
        except PromptError:
            return False
        return any(slot.text == "probe" for slot in _slots(parts))

    def layout_with_tools(
        self, turns: Sequence[Turn], tools: Sequence[Mapping[str, Any]]
    ) -> list[Mixed | int]:
        """The prompt for turns that may call tools or answer calls, and for definitions of tools.

        Like :meth:`layout`, but a tool's content, the calls and the definitions are in place.
        Raises :class:`PromptError` with the field if the template refuses or leaves out any of it.
        """
        try:
            return self._mixed(turns, tools, as_text=False)
        except PromptError as error:
            if not any(turn.calls for turn in turns):
                raise
            try:  # some templates want a call's arguments as JSON text
                return self._mixed(turns, tools, as_text=True)
            except PromptError:
                raise error from None

    def _mixed(
        self, turns: Sequence[Turn], tools: Sequence[Mapping[str, Any]], *, as_text: bool
    ) -> list[Mixed | int]:
        placeholders = Placeholders()
        entries = [_entry(turn, index, placeholders, as_text) for index, turn in enumerate(turns)]
        masked = [
            placeholders.masked(tool, f"tools[{index}]") for index, tool in enumerate(tools)
        ] or None
        parts = _PLACEHOLDERS.split(self._apply(entries, tools=masked))
        layout: list[Mixed | int] = [
            int(part) if n % 2 else tuple(placeholders.split(part)) for n, part in enumerate(parts)
        ]
        _check_complete(turns, layout)
        return layout

    def trim(self, role: str, text: str, *, tail: bool = True) -> str:
        """What the template would leave of a message's ends; ``tail=False``: begin only."""
        trim = self._trims.get(role, _Trim())
        if trim.lead != "":
            text = text.lstrip(trim.lead)
        if tail and trim.tail != "":
            text = text.rstrip(trim.tail)
        return text

    def _render(self, roles: Sequence[str], contents: Sequence[str]) -> list[Mixed | int]:
        turns = zip(roles, contents, strict=True)
        conversation = [{"role": role, "content": content} for role, content in turns]
        parts = _PLACEHOLDERS.split(self._apply(conversation))
        return [int(part) if n % 2 else (part,) for n, part in enumerate(parts)]

    def _apply(self, conversation: list[dict[str, Any]], **options: Any) -> str:
        try:
            text: str = self._tokenizer.apply_chat_template(
                conversation, tokenize=False, add_generation_prompt=True, **options
            )
        except Exception as error:  # a template is foreign code: it may raise anything at all
            reason = " ".join(str(error).split()) or type(error).__name__
            raise PromptError(f"the chat template refuses these messages: {reason}") from error
        return text

    @cached_property
    def _trims(self) -> Mapping[str, _Trim]:
        """What is taken off, by role: tried out once, with one character at a time."""
        roles = next(filter(self.accepts, (_PROBED, _PROBED[1:])), _PROBED[-1:])
        plain = self.layout(roles)
        lead = {role: "" for role in roles}
        tail = {role: "" for role in roles}
        names = [_PLACEHOLDER.format(index) for index in range(len(roles))]
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


def _entry(turn: Turn, index: int, placeholders: Placeholders, as_text: bool) -> dict[str, Any]:
    """A turn as templates take it."""
    entry: dict[str, Any] = {"role": turn.role.value, "content": _PLACEHOLDER.format(index)}
    field = turn.content_field.removesuffix("content")
    if turn.answers is not None:
        entry["content"] = placeholders.of(turn.text, turn.content_field)
        entry["tool_call_id"] = _shown_id(turn.answers.id, placeholders, f"{field}tool_call_id")
        entry["name"] = placeholders.of(turn.answers.name, f"{field}tool_call_id")
    elif turn.calls:
        entry["content"] = entry["content"] if turn.text else ""
        entry["tool_calls"] = [
            _call(call, placeholders, f"{field}tool_calls[{n}]", as_text)
            for n, call in enumerate(turn.calls)
        ]
    return entry


def _call(call: ToolCall, placeholders: Placeholders, field: str, as_text: bool) -> dict[str, Any]:
    arguments: Any
    if as_text:
        arguments = placeholders.of(json.dumps(call.arguments, ensure_ascii=False), field)
    else:
        arguments = placeholders.masked(call.arguments, field)
    function = {"name": placeholders.of(call.name, field), "arguments": arguments}
    return {"id": _shown_id(call.id, placeholders, field), "type": "function", "function": function}


def _shown_id(call_id: str, placeholders: Placeholders, field: str) -> str:
    """An id of nine letters and digits as it is: some templates take no other (Mistral's)."""
    if len(call_id) == 9 and call_id.isascii() and call_id.isalnum():
        return call_id
    return placeholders.of(call_id, field)


def _slots(layout: Sequence[Mixed | int]) -> Iterator[Slot]:
    pieces = chain.from_iterable(part for part in layout if isinstance(part, tuple))
    return (piece for piece in pieces if isinstance(piece, Slot))


def _check_complete(turns: Sequence[Turn], layout: Sequence[Mixed | int]) -> None:
    """Refuse what the template leaves out."""
    shown = {part for part in layout if isinstance(part, int)}
    fields = {slot.field for slot in _slots(layout)}
    for index, turn in enumerate(turns):
        if turn.calls:
            called = turn.content_field.removesuffix("content") + "tool_calls"
            if not any(field.startswith(called) for field in fields):
                raise PromptError("this model's chat template has no tool calls", field=called)
        elif turn.answers is not None:
            if turn.text and turn.content_field not in fields:
                raise PromptError(
                    "this model's chat template has no tool messages", field=turn.role_field
                )
        elif index not in shown:
            raise PromptError(f"the chat template leaves out the {turn.role.value} message")
