"""A real browser for tests, and the playground as its user starts it: a process of its own."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.clients.fake_server import WAIT
from tests.conftest import IN_CI

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Starting Gradio and drawing its page, on a machine that is busy with other tests.
PATIENCE = 12 * WAIT
PROBLEM = "Find the sum of all $x$ with $x^2 - 5x + 6 = 0$."


@dataclass
class Watched:
    """A page, what it complained of and whom it asked."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def open(self, url: str) -> Page:
        """Go there and wait for the server's line."""
        self.page.goto(url)
        self.page.locator(".xc-server").wait_for()
        return self.page


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """Headless Chromium with an empty profile; skips without one, but fails in CI."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        reason = "no Chromium on this machine (apt-get install chromium)"
        if IN_CI:
            pytest.fail(reason)
        pytest.skip(reason)
    pytest.importorskip("playwright")
    from playwright.sync_api import sync_playwright

    # Playwright makes a fresh profile in a temporary folder of its own.
    profile.mkdir(exist_ok=True)
    environment: dict[str, Any] = {**os.environ, "HOME": str(profile)}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found, args=list(FLAGS), env=environment
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def watched_page(browser: Browser, **context: Any) -> Iterator[Watched]:
    """A page in a context of its own, whose console, errors and requests are noted."""
    with browser.new_context(**context) as made:
        made.set_default_timeout(1000 * PATIENCE)
        page = made.new_page()
        watched = Watched(page)
        page.on(
            "console",
            lambda said: (
                watched.complaints.append(said.text) if said.type in ("error", "warning") else None
            ),
        )
        page.on("pageerror", lambda error: watched.complaints.append(str(error)))
        page.on("request", lambda request: watched.hosts.add(_host(request.url)))
        yield watched


def wait_for(page: Page, script: str) -> None:
    """Until the page's script is true."""
    page.wait_for_function(script, timeout=1000 * PATIENCE)


def summary_of(page: Page, press: Callable[[], None]) -> str:
    """Press what solves and wait for the next summary; gives its line."""
    mark = "document.querySelector('#xc-summary .xc-line')?.setAttribute('data-old', '')"
    page.evaluate(mark)
    press()
    line = page.locator("#xc-summary .xc-line:not([data-old])")
    line.wait_for()
    return line.inner_text()


def solve(page: Page) -> str:
    """Solve by the button; gives the summary's line."""
    return summary_of(page, page.get_by_role("button", name="Solve").click)


def _host(url: str) -> str:
    parts = urlsplit(url)
    return parts.hostname or "" if parts.scheme in ("http", "https", "ws", "wss") else parts.scheme


@contextmanager
def command(module: str, *arguments: str, ready: str) -> Iterator[str]:
    """Run a command of ours until the block ends; gives the line of standard error that holds
    ``ready``."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    stderr = process.stderr
    assert stderr is not None

    def read() -> None:
        for line in stderr:
            lines.put(line)
        lines.put(None)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    seen: list[str] = []
    try:
        while not seen or ready not in seen[-1]:
            line = lines.get(timeout=PATIENCE)
            assert line is not None, "".join(seen)
            seen.append(line)
        yield seen[-1]
    finally:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(WAIT)
        process.kill()
        process.wait()
        reader.join(WAIT)
        stderr.close()


@contextmanager
def playground(server: str) -> Iterator[str]:
    """``extracot playground`` for a server; gives the page's address."""
    pytest.importorskip("gradio")
    port = free_port()
    arguments = ("playground", "--base-url", server, "--port", str(port))
    with command("extracot_client.cli", *arguments, ready="playground at"):
        yield f"http://127.0.0.1:{port}/"


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
