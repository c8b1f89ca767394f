"""Tool definitions and calls as a chat template sees them: the structure, with placeholders.

A template writes tools as JSON or as plain text, wherever it likes. So that it never sees what a
client wrote, each text is replaced by a placeholder. From how the template writes the placeholder
(as it is, or escaped as JSON) follows how to write the text that then takes its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from extracot.errors import PromptError
from extracot.tokens import check_unicode

_DEEPEST = 64
# Two quotes and an accent: what becomes of them is how the template writes text at this place.
_PROBE = "'\"é"
_PLACE = re.compile(r"qXzText(\d{6,})q(.{3,24}?)qXzEnd")

# Words of JSON Schema and of a tool's definition that templates look at. A text that equals one
# of them can steer nothing else, so a template may see it.
_WORD_LIST = """
    type function name description parameters properties required items enum const default
    additionalProperties anyOf oneOf allOf not title format pattern minimum maximum minItems
    maxItems minLength maxLength strict returns arguments object array string number integer
    boolean null
"""
_WORDS = frozenset(_WORD_LIST.split())


class Slot(NamedTuple):
    """A client's text at its place in a prompt, written as the template writes it there."""

    text: str
    field: str


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _ascii_json(text: str) -> str:
    return json.dumps(text)[1:-1]


_WRITERS: tuple[Callable[[str], str], ...] = (
    lambda text: text,
    _json,
    _ascii_json,
    lambda text: _json(_json(text)),
    lambda text: _ascii_json(_ascii_json(text)),
)
_WRITTEN = {write(_PROBE): write for write in _WRITERS}


class Placeholders:
    """The placeholders of one prompt; the same text has the same one within a field."""

    def __init__(self) -> None:
        self._texts: list[tuple[str, str]] = []
        self._known: dict[tuple[str, str], int] = {}
        self._written: set[int] = set()

    def of(self, text: str, field: str) -> str:
        """The placeholder of a text, which came in at ``field``; an empty text is its own.

        Raises :class:`PromptError` for a text that is not valid Unicode.
        """
        if not text:
            return ""
        check_unicode(text, field)
        number = self._known.setdefault((text, field), len(self._texts))
        if number == len(self._texts):
            self._texts.append((text, field))
        return f"qXzText{number:06d}q{_PROBE}qXzEnd"

    def wrote(self, text: str, field: str) -> bool:
        """Whether a text that came in at ``field`` was found in what was split so far."""
        return self._known.get((text, field)) in self._written

    def masked(self, value: Any, field: str, depth: int = 0) -> Any:
        """A JSON value with placeholders for its texts; keys are texts too.

        Raises :class:`PromptError` for one that is nested too deeply.
        """
        if depth > _DEEPEST:
            raise PromptError("is nested too deeply", field=field)
        if isinstance(value, str):
            return value if value in _WORDS else self.of(value, field)
        if isinstance(value, Mapping):
            return {
                self.masked(key, field): self.masked(item, field, depth + 1)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.masked(item, field, depth + 1) for item in value]
        return value

    def split(self, text: str) -> Iterator[str | Slot]:
        """What a template wrote, with the texts back in their places; fixed text first and last.

        Raises :class:`PromptError` where a template wrote a text in a way that is not known.
        """
        at = 0
        for match in _PLACE.finditer(text):
            yield text[at : match.start()]
            found, field = self._texts[int(match[1])]
            self._written.add(int(match[1]))
            write = _WRITTEN.get(match[2])
            if write is None:
                raise PromptError(
                    "this model's chat template writes tools in a way that is not supported",
                    field=field,
                )
            yield Slot(write(found), field)
            at = match.end()
        yield text[at:]
