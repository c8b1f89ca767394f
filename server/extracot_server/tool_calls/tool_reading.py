"""Tool calls read from an answer as it arrives: a grammar's JSON, and the Hermes models' tags.

The text that makes up a call's arguments is passed on as it is, never re-written. Other formats
are vLLM's parsers' business (:mod:`extracot_server.tool_calls.vllm`).
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from typing import Literal

from extracot_server.tool_calls.tools import CallPart

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_ARGUMENTS = ("arguments", "parameters")


def new_call_id() -> str:
    """An id for a call, as OpenAI's look."""
    return f"call_{uuid.uuid4().hex[:24]}"


class CallObject:
    """One ``{"name": …, "arguments": …}`` object, read character by character.

    ``name`` and the arguments are known as soon as they are; ``done`` once the object has ended.
    Arguments that come before the name wait for it.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self.done = False
        self.broken = False
        self._depth = 0
        self._quoted = self._escaped = False
        self._key: str | None = None
        self._value: list[str] | None = None  # what has come of the present key's value
        self._word: list[str] | None = None  # what has come of the present key
        self._held: list[str] = []
        self._space = ""
        self._given = False

    def feed(self, text: str) -> tuple[str, int]:
        """Arguments that have become certain, and how many characters belong to the object."""
        for at, character in enumerate(text):
            if self.done or self.broken:
                return self._take(), at
            self._step(character)
        return self._take(), len(text)

    def finish(self) -> str:
        """What is left of the arguments; ``{}`` for a call that has none."""
        if self.name is not None and not self._given and self.done:
            self._given = True
            return "{}"
        return self._take()

    def _take(self) -> str:
        if self.name is None:
            return ""
        taken = "".join(self._held)
        self._held.clear()
        self._given = self._given or bool(taken)
        return taken

    def _step(self, character: str) -> None:
        if self._depth == 0:
            self.broken = not (character == "{" or character.isspace())
            self._depth += character == "{"
            return
        if self._quoted:
            self._in_string(character)
            return
        if self._depth == 1 and character in ",}":
            self._end_value()
            self._depth -= character == "}"
            self.done = self._depth == 0
            return
        if self._depth == 1 and self._value is None and self._word is None:
            if character == '"':
                self._word, self._quoted = [], True
            self.broken = not (character == '"' or character.isspace())
            return
        if self._value is None:  # after a key
            if character == ":":
                self._key, self._value = self._text_of(self._word), []
            self.broken = not (character == ":" or character.isspace())
            return
        self._quoted = character == '"'
        self._depth += (character in "{[") - (character in "}]")
        self._add(character)

    def _in_string(self, character: str) -> None:
        ends = character == '"' and not self._escaped
        self._escaped = character == "\\" and not self._escaped
        self._quoted = not ends
        if self._value is not None:
            self._add(character)
        elif self._word is not None and not ends:
            self._word.append(character)

    def _add(self, character: str) -> None:
        """A character of a value: kept, and passed on if it is one of the arguments."""
        assert self._value is not None
        if not self._value and character.isspace():
            return
        self._value.append(character)
        if self._key not in _ARGUMENTS:
            return
        if character.isspace() and self._depth == 1 and not self._quoted:
            self._space += character  # only a value that goes on keeps it
            return
        self._held.append(self._space + character)
        self._space = ""

    def _end_value(self) -> None:
        if self._key == "name" and self._value:
            try:
                name = json.loads("".join(self._value))
            except ValueError:
                name = None
            self.name = name if isinstance(name, str) and name else None
        self._key = self._value = self._word = None
        self._space = ""

    @staticmethod
    def _text_of(word: list[str] | None) -> str:
        return "".join(word or ())


class NamedReader:
    """The answer is the arguments of one certain function."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._begun = False

    def feed(self, text: str, token_ids: Sequence[int]) -> list[str | CallPart]:
        """See :class:`~extracot_server.tool_calls.tools.CallReader`."""
        if not text:
            return []
        start = [] if self._begun else [CallPart(0, id=new_call_id(), name=self._name)]
        self._begun = True
        return [*start, CallPart(0, text)]

    def finish(self) -> list[str | CallPart]:
        """Nothing is held back."""
        return []


class _Calls:
    """Objects one after the other, as parts of calls."""

    def __init__(self, limit: int | None) -> None:
        self.count = 0
        self._limit = limit
        self._object: CallObject | None = None
        self._begun = False

    @property
    def open(self) -> bool:
        return self._object is not None

    @property
    def named(self) -> bool:
        """The call that is being read has a name already."""
        return self._begun

    def begin(self) -> None:
        self._object, self._begun = CallObject(), False

    def feed(self, text: str) -> tuple[list[CallPart], int, bool]:
        """Parts, how many characters were taken, and whether the object has ended."""
        assert self._object is not None
        arguments, taken = self._object.feed(text)
        out = self._parts(arguments)
        return out, taken, self._object.done or self._object.broken

    def end(self) -> list[CallPart]:
        """Close the call; the last of its arguments."""
        if self._object is None:
            return []
        out = self._parts(self._object.finish())
        self.count += self._begun
        self._object = None
        return out

    def _parts(self, arguments: str) -> list[CallPart]:
        assert self._object is not None
        if self._limit is not None and self.count >= self._limit:
            self._begun = self._object.name is not None
            return []
        out = []
        if self._object.name is not None and not self._begun:
            self._begun = True
            out.append(CallPart(self.count, id=new_call_id(), name=self._object.name))
        return [*out, CallPart(self.count, arguments)] if arguments else out


class RequiredReader:
    """The answer is a JSON list of calls, as a grammar makes it."""

    def __init__(self) -> None:
        self._calls = _Calls(None)

    def feed(self, text: str, token_ids: Sequence[int]) -> list[str | CallPart]:
        """See :class:`~extracot_server.tool_calls.tools.CallReader`."""
        out: list[str | CallPart] = []
        while text:
            if not self._calls.open:
                start = text.find("{")
                if start < 0:
                    break
                text = text[start:]
                self._calls.begin()
            parts, taken, ended = self._calls.feed(text)
            out += parts
            text = text[taken:]
            if ended:
                out += self._calls.end()
        return out

    def finish(self) -> list[str | CallPart]:
        """A call that was cut off, as far as it got."""
        return list(self._calls.end())


class HermesReader:
    """``<tool_call>`` … ``</tool_call>`` around each call; any other text is the answer's.

    White space at a call is dropped. What stands between tags and is no call is text.
    """

    def __init__(self, *, parallel: bool = True) -> None:
        self._calls = _Calls(None if parallel else 1)
        self._mode: Literal["text", "call", "closing"] = "text"
        self._held = ""
        self._raw = ""
        self._space = ""

    def feed(self, text: str, token_ids: Sequence[int]) -> list[str | CallPart]:
        """See :class:`~extracot_server.tool_calls.tools.CallReader`."""
        out: list[str | CallPart] = []
        self._held += text
        while self._held and self._advance(out):
            pass
        return out

    def finish(self) -> list[str | CallPart]:
        """What was held back: the beginning of a tag that is none, or a call that was cut off."""
        out: list[str | CallPart] = []
        if self._mode == "text":
            self._show(self._held, out)
        else:
            self._leave(out, self._held)
        self._held = ""
        if not self._calls.count and self._space:
            out.append(self._space)  # no call was made: this is the answer as it is
        return out

    def _advance(self, out: list[str | CallPart]) -> bool:
        """Use some of the held text; false where more has to come first."""
        if self._mode == "text":
            return self._read_text(out)
        if self._mode == "call":
            parts, taken, ended = self._calls.feed(self._held)
            out += parts
            self._raw += self._held[:taken]
            self._held = self._held[taken:]
            if ended:
                self._mode = "closing"
            return True
        found = re.search(f"{_CLOSE}|{_OPEN}", self._held)
        if found is None:
            return False  # what stands before the closing tag is kept until it comes
        end = found.end() if found[0] == _CLOSE else found.start()
        rest, self._held = self._held[:end], self._held[end:]
        self._leave(out, rest)
        return True

    def _read_text(self, out: list[str | CallPart]) -> bool:
        at = self._held.find(_OPEN)
        if at >= 0:
            self._show(self._held[:at], out)
            self._raw, self._space = self._space + _OPEN, ""
            self._held = self._held[at + len(_OPEN) :]
            self._calls.begin()
            self._mode = "call"
            return True
        sizes = range(min(len(_OPEN) - 1, len(self._held)), 0, -1)
        keep = next((size for size in sizes if self._held.endswith(_OPEN[:size])), 0)
        cut = len(self._held) - keep
        self._show(self._held[:cut], out)
        self._held = self._held[cut:]
        return False

    def _leave(self, out: list[str | CallPart], rest: str) -> None:
        """The end of a call: its last arguments, or its text if it was none."""
        out += self._calls.end()
        if not self._calls.named:
            self._show(self._raw + rest, out)
        self._raw, self._mode = "", "text"

    def _show(self, text: str, out: list[str | CallPart]) -> None:
        """Answer text; white space waits for text that follows it."""
        whole = self._space + text
        words = whole.rstrip()
        self._space = whole[len(words) :]
        if words:
            out.append(words)
