"""Server-sent events from bytes, in any slicing: the wire format only, nothing of what it carries.

Follows the event-stream rules of the HTML standard as far as chat completions use them: `data`
fields, comments, and lines ending in LF, CR or CRLF.
"""

from __future__ import annotations

import codecs
import re

from extracot_client.errors import UnexpectedReplyError

MAX_EVENT_CHARACTERS = 16 * 2**20
_LINE_END = re.compile(r"\r\n|\n|\r")


class SSEDecoder:
    """``feed`` bytes as they come, get the data of whole events; :attr:`pending`: half an event."""

    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._parts: list[str] = []
        self._size = 0
        self._data: list[str] = []
        self._first = True

    @property
    def pending(self) -> bool:
        """Whether an event has begun that no empty line has ended."""
        return bool(self._data) or any(part.strip("\r\n") for part in self._parts)

    def feed(self, data: bytes) -> list[str]:
        """The events that ``data`` completes; raises :class:`UnexpectedReplyError` on one that
        outgrows every reply."""
        text = self._utf8.decode(data)
        if self._first and text:
            self._first = False
            text = text.removeprefix("\ufeff")
        self._size += len(text)
        if self._size > MAX_EVENT_CHARACTERS:
            raise UnexpectedReplyError("The server sent an event that never ends.")
        waiting_cr = bool(self._parts) and self._parts[-1].endswith("\r")
        if text:
            self._parts.append(text)
        if not waiting_cr and "\n" not in text and "\r" not in text:
            return []  # No line is complete: nothing is joined, so a long line stays linear.
        return self._lines()

    def _lines(self) -> list[str]:
        buffer = "".join(self._parts)
        events = []
        start = 0
        for end in _LINE_END.finditer(buffer):
            # A CR at the very end may be the first half of a CRLF: it waits for what follows.
            if end.end() == len(buffer) and end.group() == "\r":
                break
            event = self._line(buffer[start : end.start()])
            start = end.end()
            if event is not None:
                events.append(event)
        rest = buffer[start:]
        self._parts = [rest] if rest else []
        self._size = len(rest) + sum(map(len, self._data))
        return events

    def _line(self, line: str) -> str | None:
        """The data of the event that ``line`` ends, if it does."""
        if not line:
            data, self._data = self._data, []
            return "\n".join(data) if data else None
        name, _, value = line.partition(":")
        if name == "data":
            self._data.append(value.removeprefix(" "))
        return None
