"""Clients' texts as a chat template sees them: the structure of a conversation, with placeholders.

A template writes tools, calls, results and reasoning as JSON or as plain text, wherever it likes.
So that it never sees what a client wrote, each text is replaced by a placeholder. The white space
around a text stays as it is, because a template may take that off, and a placeholder holds one of
each kind of special character that its text holds. From how the template writes these (as they are,
or escaped in some way) follows how to write the text that then takes the placeholder's place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, lru_cache
from typing import Any, NamedTuple

from extracot.errors import PromptError
from extracot.tokens import check_unicode

_DEEPEST = 64
_PLACE = re.compile(r"qXzText(\d{6,})q(.{0,120}?)qXzEnd", re.DOTALL)
_LEFT, _MARK = "qXzText", "qxz"
# Kinds of characters that some template writes in a way of its own, and one of each.
_KINDS = (
    ("'", "'"),
    ('"', '"'),
    (r"\\", "\\"),
    ("&", "&"),
    ("<", "<"),
    (">", ">"),
    (r"\n", "\n"),
    (r"[\x00-\x09\x0b-\x1f\x7f]", "\x01"),
    (r"[^\x00-\x7f]", "é"),
)
_SORTS = tuple(re.compile(kind) for kind, _ in _KINDS)
_SPECIAL = re.compile("|".join(f"({kind})" for kind, _ in _KINDS))
_BETWEEN = "Z"  # between the characters in a placeholder, so that it shows what became of each

# Words of JSON Schema and of a tool's definition that templates look at. A text that equals one
# of them can steer nothing else, so a template may see it.
_WORD_LIST = """
    type function name description parameters properties required items enum const default
    additionalProperties anyOf oneOf allOf not title format pattern minimum maximum minItems
    maxItems minLength maxLength strict returns arguments object array string number integer
    boolean null
"""
_WORDS = frozenset(_WORD_LIST.split())
_SORTED_WORDS = sorted(_WORDS, key=str.lower)


class Slot(NamedTuple):
    """A client's text at its place in a prompt, written as the template writes it there."""

    text: str
    field: str


class _Masked(NamedTuple):
    """A text, and what its placeholder holds and has in front of it."""

    text: str
    field: str
    kinds: int
    before: str


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _ascii_json(text: str) -> str:
    return json.dumps(text)[1:-1]


_ENTITIES = (
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&#39;", '"': "&#34;"},
    {"'": "&apos;", '"': "&quot;"},
)
# Ways in which the characters of a kind may be written.
_WAYS: tuple[Callable[[str], str], ...] = (
    str,
    _json,
    _ascii_json,
    lambda text: _json(_json(text)),
    lambda text: _ascii_json(_ascii_json(text)),
    lambda text: repr(text)[1:-1],
    lambda text: f"\\{text}",
    lambda text: _ENTITIES[0].get(text, text),
    lambda text: _ENTITIES[1].get(text, text),
    lambda text: "".join(_ENTITIES[0].get(one, one) for one in _json(text)),
    lambda text: f"\\u{ord(text):04x}",
)


@cache
def _special(kinds: int) -> str:
    """One of each kind of special character, where ``kinds`` has its bit set."""
    return "".join(one + _BETWEEN for n, (_, one) in enumerate(_KINDS) if kinds & 1 << n)


@lru_cache(maxsize=1024)
def _writer(kinds: int, written: str) -> Callable[[str], str] | None:
    """How texts with these kinds of characters are written; ``None``: in no way that is known."""
    found = written.split(_BETWEEN)
    numbers = [n for n in range(len(_KINDS)) if kinds & 1 << n]
    if len(found) != len(numbers) + 1 or found[-1]:
        return None
    ways: dict[int, Callable[[str], str]] = {}
    for n, text in zip(numbers, found, strict=False):
        one = _KINDS[n][1]
        way = next((way for way in _WAYS if way(one) == text), None)
        if way is None:
            return None
        if way is not str:
            ways[n + 1] = way
    if not ways:
        return str
    return lambda said: _SPECIAL.sub(
        lambda match: ways.get(match.lastindex or 0, str)(match[0]), said
    )


class Placeholders:
    """The placeholders of one prompt; the same text has the same one within a field."""

    def __init__(self) -> None:
        self._texts: list[_Masked] = []
        self._known: dict[tuple[str, str], int] = {}
        self._written: set[int] = set()

    def of(self, text: str, field: str) -> str:
        """The placeholder of a text, which came in at ``field``; white space is its own.

        Raises :class:`PromptError` for a text that is not valid Unicode.
        """
        lead, said, tail = _edges(text)
        if not said:
            return text
        check_unicode(said, field)
        number = self._number(said, field)
        masked = self._texts[number]
        return f"{lead}{masked.before}{_LEFT}{number:06d}q{_special(masked.kinds)}qXzEnd{tail}"

    def wrote(self, text: str, field: str) -> bool:
        """Whether a text that came in at ``field`` was found in what was split so far."""
        return self._known.get((_edges(text)[1], field)) in self._written

    def masked(self, value: Any, field: str) -> Any:
        """A JSON value with placeholders for its texts; keys are texts too.

        Sorted, the keys have the order that the real ones have. Raises :class:`PromptError` for a
        value that is nested too deeply.
        """
        for key in sorted(_keys(value, field), key=str.lower):
            if (said := _edges(key)[1]) and key not in _WORDS:
                self._number(said, field, _word_before(said))
        return self._masked(value, field)

    def split(self, text: str) -> Iterator[str | Slot]:
        """What a template wrote, with the texts back in their places; fixed text first and last.

        Raises :class:`PromptError` where a template wrote a text in a way that is not known.
        """
        at = 0
        for match in _PLACE.finditer(text):
            number = int(match[1])
            said, field, kinds, before = self._texts[number]
            fixed = text[at : match.start()]
            write = _writer(kinds, match[2])
            if write is None or not fixed.endswith(before):
                raise _unknown_way(field)
            self._written.add(number)
            yield self._checked(fixed.removesuffix(before))
            yield Slot(write(said), field)
            at = match.end()
        yield self._checked(text[at:])

    def _checked(self, fixed: str) -> str:
        if _MARK not in fixed.lower():
            return fixed
        number = re.search(r"qxztext(\d{6,})", fixed.lower())
        raise _unknown_way(self._texts[int(number[1])].field if number else None)

    def _number(self, said: str, field: str, before: str = "") -> int:
        number = self._known.setdefault((said, field), len(self._texts))
        if number == len(self._texts):
            kinds = sum(1 << n for n, kind in enumerate(_SORTS) if kind.search(said))
            self._texts.append(_Masked(said, field, kinds, before))
        return number

    def _masked(self, value: Any, field: str) -> Any:
        if isinstance(value, str):
            return value if value in _WORDS else self.of(value, field)
        if isinstance(value, Mapping):
            return {
                self._masked(key, field): self._masked(item, field) for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._masked(item, field) for item in value]
        return value


def _edges(text: str) -> tuple[str, str, str]:
    """White space, text, white space; a full stop at the end goes with the latter, unless it is all
    there is."""
    begun = text.lstrip()
    said = begun.rstrip()
    said = said.removesuffix(".") or said
    return text[: len(text) - len(begun)], said, begun[len(said) :]


def _unknown_way(field: str | None) -> PromptError:
    return PromptError(
        "this model's chat template writes tools in a way that is not supported", field=field
    )


def _keys(value: Any, field: str, depth: int = 0) -> Iterable[str]:
    """All keys in a value. Raises :class:`PromptError` for one that is nested too deeply."""
    if depth > _DEEPEST:
        raise PromptError("is nested too deeply", field=field)
    if isinstance(value, Mapping):
        yield from value
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _keys(item, field, depth + 1)


@lru_cache(maxsize=1024)
def _word_before(key: str) -> str:
    """What makes a placeholder come between the same words as the key, where keys are sorted."""
    before = [word for word in _SORTED_WORDS if word.lower() < key.lower()]
    return before[-1] if before else "0"
