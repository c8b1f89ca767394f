"""What SIGHUP does: the files of keys and of upstreams are read again, each as a whole or not at
all, and what is new is told. Running requests go on. Knows nothing of signals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from extracot.errors import ExtracotError
from extracot_server.config.settings import Settings
from extracot_server.model_registry.registry import AppState
from extracot_server.model_registry.routing import reload_upstreams


class Reloader:
    """Reads the files again each time it is called; ``tell`` takes lines for the operator."""

    def __init__(self, state: AppState, settings: Settings, tell: Callable[[str], None]) -> None:
        self._state = state
        self._settings = settings
        self._tell = tell
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self) -> None:
        """Keys at once; upstreams as soon as the new ones have been asked what they serve."""
        with_upstreams = any(
            model.upstreams is not None for model in self._settings.served_models()
        )
        if self._settings.keys is not None:
            self._keys()
        elif not with_upstreams:
            self._tell("SIGHUP: there is no keys file, nor one of upstreams, to read again")
        if with_upstreams:
            task = asyncio.create_task(self._upstreams())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _keys(self) -> None:
        try:
            changes = self._state.reload_keys()
        except ExtracotError as error:
            return self._tell(f"SIGHUP: {error}; the current keys stay in force")
        return self._tell(f"SIGHUP: {who_may(self._state)}; {changes}")

    async def _upstreams(self) -> None:
        for line in await reload_upstreams(self._state):
            self._tell(f"SIGHUP: {line}")

    async def done(self) -> None:
        """When what is being read has been."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """End what is still being read."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def who_may(state: AppState) -> str:
    """Who may use the server, in a line."""
    count = len(state.keys)
    if not count:
        return "open to everybody who can reach this address: no API key is required"
    return f"{count} API key{'s' if count > 1 else ''} may use /v1"
