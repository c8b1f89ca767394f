"""Checks that an engine still answers, without ever waiting long for it.

A process that was stopped, or waits for a lock for ever, is not dead, but serves no requests.
Knows no engine in particular.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from extracot_server.engine.base import EngineDeadError

_WAIT_SECONDS = 1.0


class Pulse:
    """``ask`` returns once it was answered; no answer for ``stall_seconds`` counts as death."""

    def __init__(self, ask: Callable[[], Awaitable[None]], stall_seconds: float) -> None:
        self._ask = ask
        self._stall_seconds = stall_seconds
        self._asking: asyncio.Task[None] | None = None
        self._began = 0.0

    async def check(self) -> None:
        """Raise what ``ask`` raises, or :class:`EngineDeadError` after too long a silence.

        A question that is still unanswered is looked at again next time.
        """
        clock = asyncio.get_running_loop().time
        if self._asking is None:
            self._asking = asyncio.create_task(self._once())
            self._began = clock()
        asking = self._asking  # several callers may wait for one
        done, _ = await asyncio.wait({asking}, timeout=min(_WAIT_SECONDS, self._stall_seconds))
        if done:
            if self._asking is asking:
                self._asking = None
            asking.result()
        elif clock() - self._began >= self._stall_seconds:
            raise EngineDeadError(f"the engine has not answered for {clock() - self._began:.0f} s")

    async def stop(self) -> None:
        """Forget a question that was not answered."""
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _once(self) -> None:
        await self._ask()
