"""Supervision of engines: one that died or stalled is restarted, ends the server, or stays down.

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

from extracot_server.engine.base import EngineError, Restartable
from extracot_server.model_registry.engine_handle import EngineHandle
from extracot_server.model_registry.registry import AppState

log = logging.getLogger("extracot.server")


class Backoff:
    """Waits between restarts, in seconds: ``first``, doubled with each, at most ``longest``.

    An engine that has served for ``stable_seconds`` seconds starts from ``first`` again.
    """

    def __init__(
        self,
        first: float = 1.0,
        longest: float = 60.0,
        stable_seconds: float = 300.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._first = first
        self._longest = longest
        self._stable_seconds = stable_seconds
        self._clock = clock
        self._next = first
        self._up_since: float | None = clock()

    def came_up(self) -> None:
        """The engine serves again."""
        self._up_since = self._clock()

    def wait(self) -> float:
        """It is down (or did not start): how long to wait before the next try."""
        up, self._up_since = self._up_since, None
        if up is not None and self._clock() - up >= self._stable_seconds:
            self._next = self._first
        seconds, self._next = self._next, min(self._next * 2, self._longest)
        return seconds


class Supervisor:
    """Keeps what is known of ``running`` true, and replaces its engine where that is asked for."""

    def __init__(
        self, state: AppState, running: EngineHandle, backoff: Backoff | None = None
    ) -> None:
        self._state = state
        self._running = running
        self._backoff = backoff or Backoff()

    async def watch(self) -> None:
        """Until cancelled: notice an engine that dies, also while there are no requests."""
        policy = self._state.settings.on_engine_death
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._state.settings.health_interval_seconds):
                    await self._running.lost.wait()
            await self._check()
            lost = self._running.lost.is_set() and not self._running.up
            self._running.lost.clear()
            engine = self._running.engine
            if not lost or not isinstance(engine, Restartable):
                continue
            if policy == "exit":
                self._state.give_up()
            elif policy == "restart":
                await self._restart(engine)

    async def _check(self) -> None:
        try:
            await self._running.check()
        except Exception:  # the watch must outlive whatever an engine's check does
            log.exception("the engine's health check failed")
            self._running.mark(False)

    async def _restart(self, engine: Restartable) -> None:
        """Try until an engine serves."""
        running, restarts = self._running, self._state.metrics.engine_restarts
        name = running.models[0]
        while not running.up:
            seconds = self._backoff.wait()
            log.error("the engine of %s is down: restarting it in %g s", name, seconds)
            running.note = "engine restarting"
            await asyncio.sleep(seconds)
            try:
                await engine.restart()
            except EngineError as error:
                restarts.labels("failed").inc()
                log.error("the engine of %s did not restart: %s", name, error)
                continue
            restarts.labels("ok").inc()
            await self._check()
        running.lost.clear()
        self._backoff.came_up()
