"""The real app on the scripted engine, over HTTP, in a thread; once fast and once slow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import uvicorn

from extracot_server.app import create_app
from extracot_server.config.settings import Settings
from extracot_server.engine.scripted.engine import ScriptedBehaviour, ScriptedEngine
from tests.clients.browser import chromium
from tests.clients.fake_server import WAIT

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@dataclass
class LiveServer:
    """A running server and the engine behind it."""

    url: str
    engine: ScriptedEngine
    loop: asyncio.AbstractEventLoop

    def in_flight(self) -> int:
        """Requests the engine holds now."""
        return asyncio.run_coroutine_threadsafe(self.engine.in_flight(), self.loop).result(WAIT)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Poll with a deadline; fails the test when it passes."""
        pause = threading.Event()
        for _ in range(int(WAIT / 0.02)):
            if condition():
                return
            pause.wait(0.02)
        raise AssertionError("the condition never became true")


@contextmanager
def serve(
    behaviour: ScriptedBehaviour,
    *,
    port: int = 0,
    engines: Sequence[ScriptedEngine] = (),
    **settings: object,
) -> Iterator[LiveServer]:
    """The app on a port (0: a free one) until the block ends; ``engines`` for several models."""
    engine = engines[0] if engines else ScriptedEngine(behaviour)
    chosen = Settings(engine="scripted", **settings)  # type: ignore[arg-type]
    app = create_app(chosen, engine=engines or engine)
    server = uvicorn.Server(
        uvicorn.Config(
            app, host="127.0.0.1", port=port, log_config=None, timeout_graceful_shutdown=1
        )
    )
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        await server.serve()

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    pause = threading.Event()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        pause.wait(0.01)
    host, bound = server.servers[0].sockets[0].getsockname()[:2]
    try:
        yield LiveServer(f"http://{host}:{bound}", engine, loops[0])
    finally:
        server.should_exit = True
        thread.join(WAIT)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def live() -> Iterator[LiveServer]:
    """A healthy server with a calibrated model."""
    with serve(ScriptedBehaviour()) as server:
        yield server


@pytest.fixture
def at_live(live: LiveServer, monkeypatch: pytest.MonkeyPatch) -> LiveServer:
    """The command finds the real app by its variable."""
    monkeypatch.setenv("EXTRACOT_BASE_URL", live.url)
    return live


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests of a module."""
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def slow() -> Iterator[LiveServer]:
    """A server that takes for ever over each reply, so that leaving early is always early."""
    behaviour = ScriptedBehaviour(token_interval_seconds=0.05, never_close=True)
    with serve(behaviour, grace_seconds=0) as server:
        yield server


@pytest.fixture
def no_server() -> str:
    """An address where nothing listens (port 1 is reserved and never used on loopback)."""
    return "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """No colour, width or server from the environment of the tests."""
    for name in ("EXTRACOT_BASE_URL", "EXTRACOT_API_KEY", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
