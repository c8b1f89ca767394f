"""What has arrived of one reply by chat messages; its last delta waits for the usage behind it.

Knows neither connections nor servers.
"""

from __future__ import annotations

from extracot_server.engine.base import GenerationDelta, GenerationRequest
from extracot_server.engine.openai.wire import Chunk, read_chunk
from extracot_server.engine.remote.arrivals import Arrivals
from extracot_server.engine.remote.wire import Wire
from extracot_server.engine.said import Said, SaidUsage


class ChatArrivals(Arrivals):
    """Lines that have come and are not read yet. Deltas have no token ids, but what was said."""

    def __init__(self, wire: Wire, request: GenerationRequest) -> None:
        super().__init__(wire, request)
        self._last: Chunk | None = None
        self._usage: SaidUsage | None = None

    def _read(self, data: bytes) -> GenerationDelta | None:
        chunk = read_chunk(data)
        self._usage = chunk.said.usage or self._usage
        if self._last is None and chunk.finish_reason is None:
            return GenerationDelta((), said=chunk.said)
        self._begun = True
        self._last = self._last or chunk
        return None

    def _end(self) -> GenerationDelta:
        """The reply's end, with all that its server has counted."""
        if self._last is None:
            return super()._end()
        said = self._last.said
        return GenerationDelta(
            (),
            finish_reason="length" if self._last.finish_reason == "length" else "stop",
            said=Said(said.reasoning, said.content, said.calls, self._usage or SaidUsage()),
        )
