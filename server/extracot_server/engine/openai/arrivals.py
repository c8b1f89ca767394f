"""What has arrived of one reply by chat messages; its last delta waits for the usage behind it.

A reply has begun with its first text or call, and is whole with a reason for its end: of what comes
before and after, only usage counts. Knows neither connections nor servers.
"""

from __future__ import annotations

from dataclasses import replace

from extracot_server.engine.base import EngineRequestError, GenerationDelta, GenerationRequest
from extracot_server.engine.openai.wire import Chunk, read_chunk
from extracot_server.engine.remote.arrivals import Arrivals
from extracot_server.engine.remote.wire import UpstreamFailure, Wire
from extracot_server.engine.said import SaidUsage


class ChatArrivals(Arrivals):
    """Lines that have come and are not read yet. Deltas have no token ids, but what was said."""

    def __init__(self, wire: Wire, request: GenerationRequest) -> None:
        super().__init__(wire, request)
        self._last: Chunk | None = None
        self._usage: SaidUsage | None = None

    @property
    def whole(self) -> bool:
        """Whether the reply has ended; its usage may be on the way."""
        return self._last is not None

    def _read(self, data: bytes) -> GenerationDelta | None:
        try:
            chunk = read_chunk(data)
        except (EngineRequestError, UpstreamFailure):
            if self.whole:
                return None
            raise
        said, before = chunk.said, self._usage
        self._usage = said.usage or before
        if self.whole:
            return None
        if chunk.finish_reason is not None:
            self._last = chunk
            return None
        if self._begun:
            return GenerationDelta((), said=said) if said.says or said.usage else None
        if not said.says:
            return None
        if said.usage is None and before is not None:
            said = replace(said, usage=SaidUsage(before.prompt))
        return GenerationDelta((), said=said)

    def _end(self) -> GenerationDelta:
        """The reply's end, with all that its server has counted."""
        if self._last is None:
            return super()._end()
        reason = self._last.finish_reason
        usage, filtered = self._usage or SaidUsage(), reason == "content_filter"
        return GenerationDelta(
            (),
            finish_reason="length" if reason == "length" else "stop",
            said=replace(self._last.said, usage=usage, filtered=filtered),
        )
