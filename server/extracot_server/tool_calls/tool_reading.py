"""Reads tool calls from an answer as it arrives: a grammar's JSON, and Hermes tags.

The text that makes up a call's arguments is passed on as it is, never re-written. Other formats
are vLLM's parsers' business (:mod:`extracot_server.tool_calls.vllm`), which are imported only when
one is asked for.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Sequence

from extracot.prompt import Tokenizer
from extracot.reasoning import tag_beginning
from extracot_server.config.setting_values import SettingsError
from extracot_server.tool_calls.tools import CallPart, CallReaderFactory, new_call_id

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_ARGUMENTS = ('"arguments"', '"parameters"')


class CallObject:
    """One ``{"name": …, "arguments": …}`` object, read character by character, as parts of a call.

    ``named`` once its name has been given out; ``ended`` once the object is over, or is none.
    Arguments that come before the name wait for it.
    """

    def __init__(self, number: int) -> None:
        self.named = self.ended = False
        self._number = number
        self._name: str | None = None
        self._depth = 0
        self._quoted = self._escaped = self._done = False
        self._key: str | None = None  # with its quotes; None while a key is expected or read
        self._word: list[str] = []  # what has come of the present key or value
        self._held: list[str] = []
        self._space = ""
        self._given = False

    def feed(self, text: str) -> tuple[list[CallPart], int]:
        """What has become certain, and how many characters belong to the object."""
        for at, character in enumerate(text):
            if self.ended:
                return self._take(), at
            self._step(character)
        return self._take(), len(text)

    def finish(self) -> list[CallPart]:
        """What is left of the arguments; ``{}`` for a call that has none."""
        if self._name is not None and not self._given and self._done:
            self._held.append("{}")
        return self._take()

    def _take(self) -> list[CallPart]:
        if self._name is None:
            return []
        out = [] if self.named else [CallPart(self._number, id=new_call_id(), name=self._name)]
        self.named = True
        if self._held:
            self._given = True
            out.append(CallPart(self._number, "".join(self._held)))
            self._held.clear()
        return out

    def _step(self, character: str) -> None:
        if self._quoted:
            self._quoted = self._escaped or character != '"'
            self._escaped = character == "\\" and not self._escaped
        elif self._depth == 0:
            self.ended = not (character == "{" or character.isspace())
            self._depth += character == "{"
            return
        elif self._depth == 1 and character in ",}":
            self._end_value()
            self._depth -= character == "}"
            self.ended = self._done = self._depth == 0
            return
        elif self._key is None and self._word and character == ":":
            self._key, self._word = "".join(self._word), []
            return
        elif self._key is None:
            self._quoted = character == '"' and not self._word
            self.ended = not (self._quoted or character.isspace())
        else:
            self._quoted = character == '"'
            self._depth += (character in "{[") - (character in "}]")
        self._add(character)

    def _add(self, character: str) -> None:
        """A character of a key or value: kept, and passed on if it is one of the arguments."""
        space = character.isspace() and self._depth == 1 and not self._quoted
        if space and not (self._word and self._key):
            return
        self._word.append(character)
        if self._key in _ARGUMENTS and space:
            self._space += character  # only a value that goes on keeps it
        elif self._key in _ARGUMENTS:
            self._held.append(self._space + character)
            self._space = ""

    def _end_value(self) -> None:
        if self._key == '"name"' and self._word:
            try:
                name = json.loads("".join(self._word))
            except ValueError:
                name = None
            self._name = name if isinstance(name, str) and name else None
        self._key, self._word, self._space = None, [], ""


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


class RequiredReader:
    """The answer is a JSON list of calls, as a grammar makes it."""

    def __init__(self) -> None:
        self._call: CallObject | None = None
        self._count = 0

    def feed(self, text: str, token_ids: Sequence[int]) -> list[str | CallPart]:
        """See :class:`~extracot_server.tool_calls.tools.CallReader`."""
        out: list[str | CallPart] = []
        while text:
            if self._call is None:
                start = text.find("{")
                if start < 0:
                    break
                text = text[start:]
                self._call = CallObject(self._count)
            parts, taken = self._call.feed(text)
            out += parts
            text = text[taken:]
            if self._call.ended:
                out += self.finish()
        return out

    def finish(self) -> list[str | CallPart]:
        """A call that was cut off, as far as it got."""
        if self._call is None:
            return []
        out: list[str | CallPart] = [*self._call.finish()]
        self._count += self._call.named
        self._call = None
        return out


class HermesReader:
    """``<tool_call>`` … ``</tool_call>`` around each call; any other text is the answer's.

    White space at a call is dropped. What stands between tags and is no call is text.
    """

    def __init__(self, *, parallel: bool = True) -> None:
        self._parallel = parallel
        self._call: CallObject | None = None
        self._count = 0
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
        if self._call is None:
            self._show(self._held, out)
        else:
            self._leave(self._call, self._held, out)
        self._held = ""
        if not self._count and self._space:
            out.append(self._space)  # no call was made: this is the answer as it is
        return out

    def _advance(self, out: list[str | CallPart]) -> bool:
        """Use some of the held text; false where more has to come first."""
        call = self._call
        if call is None:
            return self._read_text(out)
        if not call.ended:
            parts, taken = call.feed(self._held)
            out += parts if self._parallel or not self._count else []
            self._raw += self._held[:taken]
            self._held = self._held[taken:]
            return True
        found = re.search(f"{_CLOSE}|{_OPEN}", self._held)
        if found is None:
            return False  # what stands before the closing tag is kept until it comes
        end = found.end() if found[0] == _CLOSE else found.start()
        rest, self._held = self._held[:end], self._held[end:]
        self._leave(call, rest, out)
        return True

    def _read_text(self, out: list[str | CallPart]) -> bool:
        text, tag, rest = self._held.partition(_OPEN)
        if tag:
            self._show(text, out)
            self._raw, self._space = self._space + _OPEN, ""
            self._held, self._call = rest, CallObject(self._count)
            return True
        cut = len(text) - tag_beginning(text, 0, _OPEN)
        self._show(text[:cut], out)
        self._held = text[cut:]
        return False

    def _leave(self, call: CallObject, rest: str, out: list[str | CallPart]) -> None:
        """The end of a call: its last arguments, or its text if it was none."""
        out += call.finish() if self._parallel or not self._count else []
        self._count += call.named
        if not call.named:
            self._show(self._raw + rest, out)
        self._raw, self._call = "", None

    def _show(self, text: str, out: list[str | CallPart]) -> None:
        """Answer text; white space waits for text that follows it."""
        whole = self._space + text
        words = whole.rstrip()
        self._space = whole[len(words) :]
        if words:
            out.append(words)


def call_reader_factory(
    name: str | None, engine: str, tokenizer: Tokenizer
) -> CallReaderFactory | None:
    """Readers of the format ``name`` for an engine of that kind; ``None`` where none is set.

    ``hermes`` is built in for where vLLM is not installed, and for the scripted engine; all others,
    and it too where vLLM is, are vLLM's. Raises :class:`SettingsError` for a name there is not.
    """
    if name is None:
        return None
    if engine == "scripted" or importlib.util.find_spec("vllm") is None:
        if name == "hermes":
            return lambda tools: HermesReader(parallel=tools.parallel)
        why = "has only hermes" if engine == "scripted" else "has only hermes without vLLM"
        raise SettingsError(f"tool_parser is {name!r:.60}: engine {engine} {why}")
    from extracot_server.tool_calls.vllm import vllm_reader_factory

    return vllm_reader_factory(name, tokenizer)
