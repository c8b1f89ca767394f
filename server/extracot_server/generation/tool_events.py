"""Answers that may hold tool calls, as events: text goes on as text, calls as calls.

One reader per choice. Knows no budget and counts nothing: tokens of a call are answer tokens.
"""

from __future__ import annotations

from extracot.reasoning import Part
from extracot_server.generation.events import CallDelta, Delta, Event
from extracot_server.generation.request import PreparedChat
from extracot_server.tool_calls.tool_reading import NamedReader, RequiredReader
from extracot_server.tool_calls.tools import CallPart, CallReader


class ToolEventReader:
    """Reads the deltas of choice ``index`` of a request."""

    def __init__(self, chat: PreparedChat, index: int) -> None:
        self._index = index
        self._reader = _reader(chat)
        self.called = False

    def read(self, delta: Delta) -> list[Event]:
        """The events of one delta."""
        if self._reader is None or delta.part is not Part.ANSWER:
            return [delta]
        return self._events(self._reader.feed(delta.text, delta.token_ids))

    def finish(self) -> list[Event]:
        """The events of what was held back."""
        return self._events(self._reader.finish()) if self._reader is not None else []

    def _events(self, found: list[str | CallPart]) -> list[Event]:
        out: list[Event] = []
        for item in found:
            if isinstance(item, str):
                out.append(Delta(self._index, Part.ANSWER, item))
            else:
                self.called = True
                out.append(CallDelta(self._index, item))
        return out


def _reader(chat: PreparedChat) -> CallReader | None:
    tools = chat.request.tools
    if tools is None:
        return None
    if tools.choice == "named":
        return NamedReader(tools.name or "")
    if tools.choice == "required":
        return RequiredReader()
    factory = chat.model.runtime.new_call_reader
    assert factory is not None, "refused before"
    return factory(tools)
