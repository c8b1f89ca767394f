"""So many slots for lines of batches; of the keys that wait for one, each has the next in turn.

Belongs to one event loop. Knows nothing of what a slot is for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator


class Turns:
    """Slots. One key's waiters go in order, keys round-robin, as in the queue of the server."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        # The first key is the next; none waits while a slot is free.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @contextlib.asynccontextmanager
    async def slot(self, owner: str) -> AsyncIterator[None]:
        """Hold a slot while the block lasts."""
        await self._take(owner)
        try:
            yield
        finally:
            self._give()

    async def _take(self, owner: str) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._leave(owner, turn)
            else:  # it had been given a slot, too
                self._give()
            raise

    def _give(self) -> None:
        self._free += 1
        while self._free and self._waiting:
            owner = next(iter(self._waiting))
            line = self._waiting.pop(owner)
            turn = line.popleft()
            if line:
                self._waiting[owner] = line  # behind the other keys
            if not turn.done():
                turn.set_result(None)
                self._free -= 1

    def _leave(self, owner: str, turn: asyncio.Future[None]) -> None:
        line = self._waiting.get(owner)
        if line is not None and turn in line:
            line.remove(turn)
            if not line:
                del self._waiting[owner]
