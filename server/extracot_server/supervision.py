"""What becomes of a server whose engine has died or stalled: restarted, ended, or left down.

Watches the engine's health and acts as ``on_engine_death`` says. Restarts back off, so that a
request which kills every engine it reaches cannot keep a machine loading models. Knows no engine in
particular, no HTTP and no signals.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from time import monotonic

from extracot_server.api.state import AppState
from extracot_server.engine.base import Engine, EngineError, Restartable

log = logging.getLogger("extracot.server")


class Backoff:
    """Waits between restarts, in seconds: ``first``, doubled with each, at most ``longest``.

    An engine that has served for ``forgiven_after`` seconds starts from ``first`` again.
    """

    def __init__(
        self,
        first: float = 1.0,
        longest: float = 60.0,
        forgiven_after: float = 300.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._first = first
        self._longest = longest
        self._forgiven_after = forgiven_after
        self._clock = clock
        self._next = first
        self._up_since: float | None = clock()

    def came_up(self) -> None:
        """The engine serves again."""
        self._up_since = self._clock()

    def wait(self) -> float:
        """It is down (or did not start): how long to wait before the next try."""
        up, self._up_since = self._up_since, None
        if up is not None and self._clock() - up >= self._forgiven_after:
            self._next = self._first
        seconds, self._next = self._next, min(self._next * 2, self._longest)
        return seconds


class Supervisor:
    """Keeps ``state`` true of ``engine``, and replaces the engine where that is asked for."""

    def __init__(self, state: AppState, engine: Engine, backoff: Backoff | None = None) -> None:
        self._state = state
        self._engine = engine
        self._backoff = backoff or Backoff()

    async def watch(self) -> None:
        """Until cancelled: notice an engine that dies, also while nobody asks for anything."""
        policy = self._state.settings.on_engine_death
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._state.settings.health_interval_seconds):
                    await self._state.engine_lost.wait()
            await self._check()
            lost = self._state.engine_lost.is_set() and not self._state.engine_up
            self._state.engine_lost.clear()
            if not lost or not isinstance(self._engine, Restartable):
                continue
            if policy == "exit":
                self._state.give_up()
            elif policy == "restart":
                await self._restart(self._engine)

    async def _check(self) -> None:
        try:
            await self._state.check_engine()
        except Exception:  # the watch must outlive whatever an engine's check does
            log.exception("the engine's health check failed")
            self._state.mark_engine(False)

    async def _restart(self, engine: Restartable) -> None:
        """Try until an engine serves."""
        restarts = self._state.metrics.engine_restarts
        while not self._state.engine_up:
            seconds = self._backoff.wait()
            log.error("the engine is down: it is started again in %g s", seconds)
            self._state.engine_note = "engine restarting"
            await asyncio.sleep(seconds)
            try:
                await engine.restart()
            except EngineError as error:
                restarts.labels("failed").inc()
                log.error("the engine did not start again: %s", error)
                continue
            restarts.labels("ok").inc()
            await self._check()
        self._state.engine_lost.clear()
        self._backoff.came_up()
