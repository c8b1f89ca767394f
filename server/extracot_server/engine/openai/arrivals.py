"""What has arrived of one reply by chat messages; its last delta waits for the usage behind it.

Knows neither connections nor servers.
"""

from __future__ import annotations

from extracot_server.engine.base import EngineRequestError, GenerationDelta, GenerationRequest
from extracot_server.engine.openai.wire import Chunk, read_chunk
from extracot_server.engine.remote.arrivals import DONE, Arrivals
from extracot_server.engine.remote.wire import UpstreamFailure, Wire
from extracot_server.engine.said import Said, SaidUsage


class ChatArrivals(Arrivals):
    """Lines that have come and are not read yet. Deltas have no token ids, but what was said."""

    def __init__(self, wire: Wire, request: GenerationRequest) -> None:
        super().__init__(wire, request)
        self._last: Chunk | None = None
        self._usage: SaidUsage | None = None

    def take(self) -> GenerationDelta | None:
        """The next delta; ``None`` where the lines hold no more.

        Raises :class:`UpstreamFailure`, and :class:`EngineRequestError` instead of the first one.
        """
        while self._lines:
            data = self._lines.popleft()
            if data == DONE:
                return self._end()
            try:
                chunk = read_chunk(data)
            except EngineRequestError:
                if not self._begun:
                    raise
                raise UpstreamFailure("it refused a request that it had begun") from None
            self._begun = True
            self._usage = chunk.said.usage or self._usage
            if self._last is None and chunk.finish_reason is None:
                return GenerationDelta((), said=chunk.said)
            self._last = self._last or chunk
        return None

    def _end(self) -> GenerationDelta:
        """The reply's end, with all that its server has counted."""
        if self._last is None:
            raise UpstreamFailure("its stream ended before the reply did")
        said = self._last.said
        return GenerationDelta(
            (),
            finish_reason="length" if self._last.finish_reason == "length" else "stop",
            said=Said(said.reasoning, said.content, said.calls, self._usage or SaidUsage()),
        )
