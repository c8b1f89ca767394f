"""What has arrived of one reply's event stream: its ``data:`` lines, and deltas out of them.

A reply is whole with a reason for its end; that last delta waits for the usage behind it, which is
all that counts of what comes then. Knows neither connections nor servers.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import cast

from extracot_server.engine.base import (
    EngineRequestError,
    GenerationDelta,
    GenerationRequest,
    joined,
)
from extracot_server.engine.remote.wire import UpstreamFailure, Wire, read_chunk

DONE = b"[DONE]"
MOST_OF_A_LINE = 4 * 1024 * 1024
"""Bytes of one line of a stream, as many as a request may have."""


class Arrivals:
    """Lines that have come and are not read yet."""

    def __init__(self, wire: Wire, request: GenerationRequest) -> None:
        self._wire, self._request = wire, request
        self._lines: deque[bytes] = deque()
        self._begun = False
        self._last: GenerationDelta | None = None
        self._cached: int | None = None
        self._beginning = bytearray()
        """Of a line whose end has not come yet."""

    def __bool__(self) -> bool:
        return bool(self._lines)

    @property
    def whole(self) -> bool:
        """Whether all of the reply has been read; its usage may be on the way."""
        return self._last is not None

    def lines_of(self, block: bytes) -> list[bytes]:
        """The lines that end in what has come next; what is behind them is kept.

        Raises :class:`UpstreamFailure` for a line that does not end within ``MOST_OF_A_LINE``.
        """
        first, end, others = block.partition(b"\n")
        self._beginning += first
        if len(self._beginning) > MOST_OF_A_LINE:
            raise UpstreamFailure(f"it sent a line of more than {MOST_OF_A_LINE} bytes")
        if not end:
            return []
        *lines, last = self.rest(), *others.split(b"\n")
        self._beginning += last
        return lines

    def rest(self) -> bytes:
        """The beginning of a line whose end has not come, which is not kept any more."""
        rest = bytes(self._beginning)
        self._beginning.clear()
        return rest

    def add(self, lines: Iterable[bytes]) -> None:
        """These have come."""
        self._lines.extend(lines)

    def take(self) -> GenerationDelta | None:
        """The next delta; ``None`` where the lines hold no more.

        Raises :class:`UpstreamFailure`, and :class:`EngineRequestError` instead of the first one.
        """
        while self._lines:
            data = self._lines.popleft()
            if data == DONE:
                return self._end()
            try:
                delta = self._read(data)
            except EngineRequestError:
                if not self._begun:
                    raise
                raise UpstreamFailure("it refused a request that it had begun") from None
            if delta is not None:
                self._begun = True
                return delta
        return None

    def _read(self, data: bytes) -> GenerationDelta | None:
        try:
            delta = self._delta(data)
        except (EngineRequestError, UpstreamFailure):
            if self.whole:
                return None
            raise
        if self.whole:
            return None
        if delta is not None and delta.finish_reason is not None:
            self._last = delta
            return None
        return delta

    def _delta(self, data: bytes) -> GenerationDelta | None:
        """What a line adds, its usage noted; ``None``: nothing of the reply."""
        delta = read_chunk(data, self._wire, self._request)
        if delta is None or delta.cached_tokens is None:
            return delta
        self._cached = delta.cached_tokens
        return None

    def _end(self) -> GenerationDelta:
        """The reply's end, with what its server has told behind it."""
        if self._last is None:
            raise UpstreamFailure("its stream ended before the reply did")
        return self._last._replace(cached_tokens=self._cached)

    def take_with(self, delta: GenerationDelta) -> GenerationDelta:
        """A delta, and all that has come after it."""
        while delta.finish_reason is None and (more := self.take()) is not None:
            delta = joined(delta, more)
        return delta

    def pass_on(self, block: bytes) -> bytes:
        """Hand what has just come to the request's receiver; what of it is left to be read.

        Only whole events are, and nothing that ends or fails: those are the reader's.
        """
        request = self._request
        if request.hold or self._lines or self._beginning or not block.endswith(b"\n\n"):
            return block
        events = block[:-2].split(b"\n\n")
        for at, event in enumerate(events):
            try:
                delta = self._read(event[5:]) if event.startswith(b"data:") else None
            except (EngineRequestError, UpstreamFailure):
                delta = None
            if delta is None or not request.taken(delta):
                return b"\n\n".join(events[at:]) + b"\n\n"
        return b""


async def event_data(raw: AsyncIterator[bytes], arrivals: Arrivals) -> AsyncGenerator[list[bytes]]:
    """The ``data:`` lines of an event stream as they arrive, without comments.

    Raises :class:`UpstreamFailure` for a line without an end.
    """
    # httpx tells of an iterator; it is a generator, which has to be closed.
    async with contextlib.aclosing(cast("AsyncGenerator[bytes]", raw)) as blocks:
        async for block in blocks:
            lines = arrivals.lines_of(block)
            if found := [line[5:].strip() for line in lines if line.startswith(b"data:")]:
                yield found
        if (last := arrivals.rest()).startswith(b"data:"):  # a server may leave its line end out
            yield [last[5:].strip()]
