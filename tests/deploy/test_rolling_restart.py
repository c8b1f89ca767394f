"""Servers restarted one after the other under load: what was accepted is completed.

Half of the load goes through real nginx with the configuration that is shipped, half straight to
the servers, by clients that try the next one when nobody lets them in.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.abc
import httpx
import pytest

from tests.conftest import IN_CI
from tests.server.live import user

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
DEADLINE = 500.0
TOKENS = 20
WORKERS = 4  # of each kind


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@dataclass
class Server:
    """One front end, as a process that can be started again."""

    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Begin to start; returns at once."""
        command = [sys.executable, "-m", "tests.deploy.slow_server", "--engine", "scripted"]
        command += ["--port", str(self.port), "--grace-seconds", "120"]
        self.process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)

    async def ready(self) -> None:
        """Wait until it serves."""
        async with httpx.AsyncClient(base_url=self.url) as http:
            while self.process is None or self.process.poll() is None:
                with contextlib.suppress(httpx.TransportError):
                    if (await http.get("/ready")).status_code == 200:
                        return
                await anyio.sleep(0.1)
        raise AssertionError("it ended before it was ready")

    async def in_flight(self) -> float:
        """Requests that it serves now."""
        async with httpx.AsyncClient(base_url=self.url) as http:
            for line in (await http.get("/metrics")).text.splitlines():
                if line.startswith("extracot_requests_in_flight "):
                    return float(line.split()[1])
        return 0.0

    async def restart(self) -> int:
        """SIGTERM in the midst of replies, wait for the end, start again; the exit code."""
        assert self.process is not None
        while await self.in_flight() < 2:
            await anyio.sleep(0.05)
        self.process.send_signal(signal.SIGTERM)
        code = await anyio.to_thread.run_sync(self.process.wait)
        self.start()
        await self.ready()
        return code


@dataclass
class Load:
    """Requests without end, and what became of them: whole replies and everything else."""

    urls: Sequence[str]
    turned_away: Callable[[httpx.TransportError | int], bool]
    """Whether a client that fails so, before a reply has begun, tries the next address."""
    outcomes: Counter[str] = field(default_factory=Counter)
    stopped: bool = False

    async def worker(self, number: int) -> None:
        """Ask, one request after the other: streams and plain replies in turn."""
        addresses = itertools.islice(itertools.cycle(self.urls), number, None)
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(timeout=120, limits=limits, trust_env=False) as http:
            for stream in itertools.cycle((True, False)):
                if self.stopped:
                    return
                self.outcomes[await self.ask(http, addresses, stream)] += 1

    async def ask(self, http: httpx.AsyncClient, addresses: Iterator[str], stream: bool) -> str:
        """One request, until somebody takes it; "whole", or what went wrong."""
        body = {"messages": user(), "max_tokens": TOKENS, "ignore_eos": True, "stream": stream}
        while True:
            begun = False
            url = f"{next(addresses)}/v1/chat/completions"
            try:
                async with http.stream("POST", url, json=body) as response:
                    begun = response.status_code == 200
                    if not begun and self.turned_away(response.status_code):
                        await anyio.sleep(0.05)
                        continue
                    text = (await response.aread()).decode()
                    return verdict(text, stream) if begun else f"status {response.status_code}"
            except httpx.TransportError as error:
                if begun or not self.turned_away(error):
                    return f"{type(error).__name__} (a reply had begun: {begun})"
            await anyio.sleep(0.05)

    async def more(self, count: int) -> None:
        """Wait for so many more replies."""
        wanted = self.outcomes.total() + count
        while self.outcomes.total() < wanted:
            await anyio.sleep(0.05)


def verdict(text: str, stream: bool) -> str:
    """Whether a reply is all there."""
    if not stream:
        reply = json.loads(text)
        whole = reply["choices"][0]["finish_reason"] == "length"
        return "whole" if whole and reply["usage"]["completion_tokens"] == TOKENS else text
    events = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    if not events or events[-1] != "[DONE]":
        return "a stream without its end"
    chunks = [json.loads(event) for event in events[:-1]]
    ends = [choice["finish_reason"] for chunk in chunks for choice in chunk.get("choices", ())]
    return "whole" if [end for end in ends if end] == ["length"] else events[-2]


def nginx_configuration(
    folder: Path,
    port: int,
    servers: Sequence[Server],
    listens: str = "plain",
    other: Sequence[tuple[str, str]] = (),
) -> Path:
    """The shipped configuration, with this machine's addresses in the places of Docker's.

    ``other``: more of its lines, and what a test has in their places.
    """
    shipped = ROOT / "deploy/nginx"
    text = (shipped / "nginx.conf").read_text().replace("/tmp/", f"{folder}/")
    listen = (shipped / f"{listens}.conf").read_text().replace("/run/secrets/", f"{folder}/")
    assert listen.count("listen 8080 ") == 1
    (folder / "listen.conf").write_text(listen.replace("listen 8080 ", f"listen 127.0.0.1:{port} "))
    if not (folder / "limits.conf").exists():  # a test may have put lower ones
        shutil.copy(shipped / "limits.conf", folder)
    (own,) = free_ports(1)
    # Docker's DNS names the front ends; here a list does. `max_fails=0`, because DNS answers
    # remember no failures either.
    names = "".join(f"server 127.0.0.1:{server.port} max_fails=0; " for server in servers)
    for old, new in (
        ("/etc/extracot/listen.conf", f"{folder}/listen.conf"),
        ("/etc/extracot/limits.conf", f"{folder}/limits.conf"),
        ("listen 127.0.0.1:8081;", f"listen 127.0.0.1:{own};"),
        ("set $front front:8000;", "set $front fronts;"),
        ("    server {\n", f"    upstream fronts {{ {names}}}\n    server {{\n"),
        *other,
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / "nginx.conf"
    path.write_text(text)
    return path


async def listening(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until this process takes connections."""
    while process.poll() is None:
        with contextlib.suppress(OSError):
            async with await anyio.connect_tcp("127.0.0.1", port):
                return
        await anyio.sleep(0.05)
    raise AssertionError("it ended before it listened")


@contextlib.asynccontextmanager
async def reverse_proxy(
    folder: Path,
    servers: Sequence[Server],
    listens: str = "plain",
    other: Sequence[tuple[str, str]] = (),
) -> AsyncIterator[str | None]:
    """nginx in front of the servers, with or without TLS; ``None`` where there is no nginx."""
    if NGINX is None:
        yield None
        return
    (port,) = free_ports(1)
    path = nginx_configuration(folder, port, servers, listens, other)
    own = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")
    process = subprocess.Popen([NGINX, "-e", "stderr", "-c", str(path), "-g", own])
    try:
        await listening(port, process)
        yield f"{'https' if listens == 'tls' else 'http'}://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGQUIT)
        await anyio.to_thread.run_sync(process.wait)


@dataclass
class Story:
    """How it went."""

    straight: Counter[str]
    through_nginx: Counter[str] | None
    codes: list[int]
    still_running: float
    """Replies still being made when the first word of one had come through nginx."""


async def first_word(address: str, servers: Sequence[Server]) -> float:
    """Read the first event of a stream, and see how many requests run by then."""
    body = {"messages": user(), "max_tokens": 100, "ignore_eos": True, "stream": True}
    url = f"{address}/v1/chat/completions"
    async with httpx.AsyncClient(timeout=120) as http, http.stream("POST", url, json=body) as reply:
        async for line in reply.aiter_lines():
            if line.startswith("data: "):  # whoever leaves the loop first, leaves the stream
                return sum([await server.in_flight() for server in servers])
    raise AssertionError("a stream without an event")


def let_in_by_nobody(problem: httpx.TransportError | int) -> bool:
    """A server that stops refuses connections, cuts those it has not read from, or says 503."""
    return problem == 503 or isinstance(
        problem, httpx.ConnectError | httpx.ReadError | httpx.RemoteProtocolError
    )


async def roll(folder: Path) -> Story:
    """Restart two servers in turn, under load from first to last."""
    servers = [Server(port) for port in free_ports(2)]
    loads: list[Load] = []
    codes: list[int] = []
    running = 0.0
    try:
        for server in servers:
            server.start()
        for server in servers:
            await server.ready()
        async with reverse_proxy(folder, servers) as address, anyio.create_task_group() as tasks:
            loads.append(Load([server.url for server in servers], let_in_by_nobody))
            if address is not None:
                running = await first_word(address, servers)
                loads.append(Load([address], lambda _: False))
            for load in loads:
                for number in range(WORKERS):
                    tasks.start_soon(load.worker, number)
            for server in servers:
                for load in loads:
                    await load.more(WORKERS)
                codes.append(await server.restart())
            for load in loads:
                await load.more(WORKERS)
                load.stopped = True
    finally:
        for server in servers:
            if server.process is not None:
                server.process.kill()
                server.process.wait()
    through_nginx = loads[1].outcomes if loads[1:] else None
    return Story(loads[0].outcomes, through_nginx, codes, running)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Told once for all tests here."""

    async def bounded() -> Story:
        with anyio.fail_after(DEADLINE):
            return await roll(tmp_path_factory.mktemp("nginx"))

    return asyncio.run(bounded())  # anyio's own may be held open by fixtures of the session


def test_servers_stop_in_good_order(story: Story) -> None:
    assert story.codes == [0, 0]


def test_clients_that_try_the_next_server_lose_nothing(story: Story) -> None:
    assert set(story.straight) == {"whole"}
    assert story.straight.total() >= 3 * WORKERS


def test_behind_the_shipped_nginx_no_client_notices(story: Story) -> None:
    """Not one error, and no client tries anything twice."""
    if story.through_nginx is None:
        assert not IN_CI, "CI puts nginx here (.ci/run)"
        pytest.skip("nginx is not installed (apt-get install nginx-light)")
    assert story.still_running == 1, "nginx held the stream back"
    assert set(story.through_nginx) == {"whole"}
    assert story.through_nginx.total() >= 3 * WORKERS
