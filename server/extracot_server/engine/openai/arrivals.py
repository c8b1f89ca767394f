"""What has arrived of one reply by chat messages.

It has begun with its first text or call: of what comes before that, as of what comes behind its
end, only usage counts. Knows neither connections nor servers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from extracot_server.engine.base import GenerationDelta, GenerationRequest
from extracot_server.engine.openai.wire import read_chunk
from extracot_server.engine.remote.arrivals import Arrivals
from extracot_server.engine.remote.wire import Wire
from extracot_server.engine.said import SaidUsage


class ChatArrivals(Arrivals):
    """Lines that have come and are not read yet. Deltas have no token ids, but what was said."""

    def __init__(self, wire: Wire, request: GenerationRequest) -> None:
        super().__init__(wire, request)
        self._usage: SaidUsage | None = None

    def _delta(self, data: bytes) -> GenerationDelta | None:
        chunk = read_chunk(data)
        said, before = chunk.said, self._usage
        self._usage = said.usage or before
        if (reason := chunk.finish_reason) is not None:
            said = replace(said, filtered=reason == "content_filter")
            finish: Literal["stop", "length"] = "length" if reason == "length" else "stop"
            return GenerationDelta((), finish_reason=finish, said=said)
        if self._begun:
            return GenerationDelta((), said=said) if said.says or said.usage else None
        if not said.says:
            return None
        if said.usage is None and before is not None:
            said = replace(said, usage=SaidUsage(before.prompt, cached=before.cached))
        return GenerationDelta((), said=said)

    def _end(self) -> GenerationDelta:
        """The reply's end, with all that its server has counted."""
        last = super()._end()
        assert last.said is not None
        return last._replace(said=replace(last.said, usage=self._usage or SaidUsage()))
