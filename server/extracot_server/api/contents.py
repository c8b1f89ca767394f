"""Reads what messages hold, in the forms of every API: texts, parts that are texts, and others.

This server reads text only. What else stands in the newest message of the user, or in a system
message, would change the reply, so it is refused. Anywhere else it happened before; a line in
brackets stands in for it, so that a session goes on, and the report names the field. Knows neither
roles nor templates.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from extracot.prompt import Message
from extracot.tokens import is_unicode
from extracot_server.api.body import levels
from extracot_server.api.earlier_reasoning import THOUGHTS, EarlierReasoning, joined
from extracot_server.budget.values import shown
from extracot_server.errors import InvalidRequestError

T = TypeVar("T")
TEXT_KINDS = ("text", "input_text", "output_text")
_NAMES = {
    **dict.fromkeys(("image", "image_url", "input_image", "computer_screenshot"), "image"),
    **dict.fromkeys(("audio", "input_audio"), "audio"),
    **dict.fromkeys(("file", "input_file", "document", "container_upload"), "file"),
    **dict.fromkeys(("video", "video_url", "input_video"), "video"),
}
_MAX_DEPTH = 60  # of a call's arguments: templates write no deeper ones


@dataclass(slots=True)
class Content:
    """A text that is put together of parts, and the fields of those that are only mentioned."""

    between: str = "\n"
    """What stands between texts that have no white space of their own there."""
    omitted: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    """The reasoning of parts that hold some."""
    _parts: list[str] = field(default_factory=list)
    _mentioned: bool = False

    @property
    def text(self) -> str:
        """All of it; what is only mentioned has a line of its own."""
        return "".join(self._parts)

    def add(self, text: str) -> None:
        """A part that is text."""
        if not text:
            return
        if self._mentioned:
            self._parts.append("\n")
        elif self._parts and not (self._parts[-1][-1].isspace() or text[0].isspace()):
            self._parts.append(self.between)
        self._parts.append(text)
        self._mentioned = False

    def mention(self, kind: object, where: str) -> None:
        """A part that is something else."""
        if self._parts:
            self._parts.append("\n")
        self._parts.append(placeholder(kind))
        self.omitted.append(where)
        self._mentioned = True


def placeholder(kind: object) -> str:
    """The text that stands in for a part of this type."""
    name = kind[:40] if isinstance(kind, str) and kind and is_unicode(kind[:40]) else "part"
    return f"[{_NAMES.get(name, name)} omitted]"


def read_content(
    content: Any,
    where: str,
    kinds: Sequence[str] = TEXT_KINDS,
    *,
    strict: bool = False,
    reply: EarlierReasoning | None = None,
    between: str = "\n",
) -> Content:
    """A content: a text, or a list of parts. Nothing at all is an empty text, unless ``strict``.

    ``kinds`` are the types of parts that are text; others are mentioned, or refused if
    ``strict``. In a reply refusals are text, and ``reply`` reads reasoning. Texts are joined with
    ``between``, as vLLM does; those of a reply are pieces of one text, with nothing between.
    """
    found = Content(between if reply is None else "")
    if isinstance(content, str):
        found.add(content)
        return found
    if not strict and content in (None, []):
        return found
    if not isinstance(content, list) or not content:
        what = "must be a text or a list of text parts, and not empty."
        raise InvalidRequestError.of(where, what)
    for index, part in enumerate(content):
        at = f"{where}[{index}]"
        if not isinstance(part, dict):
            raise InvalidRequestError.of(at, "must be an object.")
        add_part(found, part, at, kinds, strict=strict, reply=reply)
    return found


def add_part(
    found: Content,
    part: Mapping[str, Any],
    at: str,
    kinds: Sequence[str] = TEXT_KINDS,
    *,
    strict: bool = False,
    reply: EarlierReasoning | None = None,
) -> None:
    """One part of a content; raises :class:`InvalidRequestError` for one that can't be read."""
    kind = part.get("type")
    if kind in kinds:
        found.add(_text(part, "text", at))
    elif reply is not None and kind == "refusal":
        found.add(_text(part, "refusal", at))
    elif reply is not None and isinstance(kind, str) and kind in THOUGHTS:
        if thought := reply.of_part(part, at):
            found.thoughts.append(thought)
    elif kind is None:
        raise InvalidRequestError.of(f"{at}.type", "is missing.", "unsupported_content")
    elif strict or not isinstance(kind, str):
        what = f"is {shown(kind)}; this server takes text only."
        raise InvalidRequestError.of(f"{at}.type", what, "unsupported_content")
    else:
        found.mention(kind, at)


def _text(part: Mapping[str, Any], name: str, at: str) -> str:
    text = part.get(name)
    if not isinstance(text, str):
        raise InvalidRequestError.of(f"{at}.{name}", "must be a string.")
    return text


def read_free_text(call: Mapping[str, Any], where: str) -> dict[str, Any] | str:
    """The arguments of a call of a tool that takes free text: its ``input``."""
    given = call.get("input")
    if not isinstance(given, str):
        raise InvalidRequestError.of(f"{where}.input", "must be a string.")
    return given or {}


def last_place(found: Iterable[bool]) -> int | None:
    """Where the last true one stands, as that of the newest message of the user."""
    return max((index for index, one in enumerate(found) if one), default=None)


def in_runs(
    messages: Iterable[Message], goes_on: Callable[[Sequence[Message], Message], bool]
) -> list[Message]:
    """Messages in order, each that goes on from those before it joined with them."""
    runs: list[list[Message]] = []
    for message in messages:
        if runs and goes_on(runs[-1], message):
            runs[-1].append(message)
        else:
            runs.append([message])
    return [_one_message(run) for run in runs]


def _one_message(messages: Sequence[Message]) -> Message:
    """Messages of one role as one, a line break between their texts."""
    if len(messages) == 1:
        return messages[0]
    return replace(
        messages[0],
        content="\n".join(message.content for message in messages if message.content),
        tool_calls=_all(message.tool_calls for message in messages),
        omitted=_all(message.omitted for message in messages),
        reasoning=joined([message.reasoning for message in messages]),
    )


def _all(parts: Iterable[tuple[T, ...]]) -> tuple[T, ...]:
    return tuple(part for several in parts for part in several)


def require_text(block: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    """Raise :class:`InvalidRequestError` unless these keys of a block are texts, not empty."""
    for name in names:
        if block.get(name) is None:
            raise InvalidRequestError.of(f"{where}.{name}", "is missing.")
        if not isinstance(block[name], str) or not block[name]:
            raise InvalidRequestError.of(f"{where}.{name}", "must be a string that is not empty.")


def read_arguments(given: Any, where: str) -> dict[str, Any] | str:
    """A call's arguments: an object, its JSON text, or the text itself where it is no such thing.

    Models write calls that are no JSON, or that a limit cut off, and what was said once comes
    back with every later request. Nothing is an object without keys. Raises
    :class:`InvalidRequestError` for what is neither text nor an object.
    """
    if given is None or (isinstance(given, str) and given.strip() in ("", "null")):
        return {}
    if not isinstance(given, str | dict):
        raise InvalidRequestError.of(where, "must be a string, the JSON text of an object.")
    arguments = writable_object(given)
    if isinstance(given, dict):
        if arguments is None:
            raise InvalidRequestError.of(where, "holds what JSON can't.")
        return arguments
    return given if arguments is None or levels(arguments) > _MAX_DEPTH else arguments


def writable_object(given: str | dict[str, Any]) -> dict[str, Any] | None:
    """An object, or the one whose JSON text it is, if a reply can say it again.

    What JSON has no word for, such as NaN, or what no text can hold, is no value.
    """
    try:
        found = json.loads(given) if isinstance(given, str) else given
        json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
