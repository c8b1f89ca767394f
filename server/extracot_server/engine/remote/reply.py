"""An upstream's answer being read: the payloads of an event stream, and its end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import cast

import httpx

from extracot_server.engine.remote.wire import Wire


class UpstreamReply:
    """An answer being read: the ``data:`` lines of its event stream, without comments."""

    def __init__(self, response: httpx.Response, wire: Wire) -> None:
        self.wire = wire
        self._response = response
        self._blocks: AsyncIterator[bytes] = response.aiter_raw()
        self._lines: list[bytes] = []
        self._rest = b""

    async def next(self) -> bytes | None:
        """The next payload; ``None`` at ``[DONE]`` or the end."""
        while True:
            while self._lines:
                line = self._lines.pop()
                if line.startswith(b"data:"):
                    data = line[5:].strip()
                    return None if data == b"[DONE]" else data
            try:
                block = await anext(self._blocks)
            except StopAsyncIteration:
                return None
            *lines, self._rest = (self._rest + block).split(b"\n")
            self._lines = lines[::-1]

    async def drain(self) -> None:
        """Read to the end, past ``[DONE]``."""
        async for _ in self._blocks:
            pass

    async def aclose(self) -> None:
        """Stop reading; before the end, this closes the connection."""
        await cast("AsyncGenerator[bytes, None]", self._blocks).aclose()
        await self._response.aclose()
