"""Common parts of the serving benchmarks: server processes and their CPU time, streams, tables.

Front-end cost is CPU time of the front end's own processes: it says the same on a busy machine,
where seconds on the wall do not. Knows no server in particular.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Event
from time import perf_counter, process_time
from typing import Any

import httpx

from benchmarks.processes import cpu_seconds, front_and_engine, resident_kib


@dataclass
class Server:
    """A server process that is ready."""

    name: str
    url: str
    process: subprocess.Popen[bytes]
    model: str

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    def cpu_seconds(self) -> float:
        """CPU time of the front end so far, of all its workers; the engine's is not in it."""
        return sum(map(cpu_seconds, self._parts[0]))

    def engine_seconds(self) -> float:
        """CPU time of its engine so far; 0 where that is in the front end, or elsewhere."""
        return sum(map(cpu_seconds, self._parts[1]))

    @cached_property
    def _parts(self) -> tuple[list[int], list[int]]:
        return front_and_engine(self.process.pid)

    def resident_kib(self) -> int:
        """Resident memory of its first process."""
        return resident_kib(self.process.pid)


@contextlib.contextmanager
def server(
    name: str,
    command: Sequence[str],
    port: int,
    model: str,
    log: Path,
    folder: Path | None = None,
) -> Iterator[Server]:
    """Start, wait until ``/health`` answers and the model can be asked, stop at the end.

    ``folder`` is the checkout that is to run, instead of the one that is installed.
    """
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1"}
    if folder is not None:
        parts = (folder, folder / "server", folder / "clients" / "python")
        environment["PYTHONPATH"] = os.pathsep.join(map(str, parts))
    with (
        log.open("wb") as said,
        subprocess.Popen(command, stdout=said, stderr=said, env=environment, cwd=folder) as process,
    ):
        try:
            _wait_until_ready(url, process, log)
            yield Server(name, url, process, model)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    pause = Event()
    for _ in range(6000):
        if process.poll() is not None:
            raise SystemExit(f"a server did not start:\n{log.read_text()[-3000:]}")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        pause.wait(0.1)
    raise SystemExit("a server did not become ready in ten minutes")


def free_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Load:
    """What came of some streams; times in seconds."""

    streams: int
    tokens: int = 0
    events: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    engine: float = 0.0
    client: float = 0.0
    first: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    kib_per_stream: float = 0.0

    @property
    def cpu_per_thousand(self) -> float:
        """Front-end CPU seconds per 1,000 streamed tokens."""
        return 1000 * self.cpu / self.tokens


def joined(loads: Sequence[Load]) -> Load:
    """Repeats of one measurement as one."""
    total = Load(loads[0].streams)
    for load in loads:
        for name in ("tokens", "events", "wall", "cpu", "engine", "client"):
            setattr(total, name, getattr(total, name) + getattr(load, name))
        total.first += load.first
        total.gaps += load.gaps
        total.whole += load.whole
    total.kib_per_stream = statistics.median(load.kib_per_stream for load in loads)
    return total


def request_of(
    model: str, prompt: str, max_tokens: int, *, stream: bool = True, **fields: Any
) -> bytes:
    """One chat request as it goes over the wire."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "stream": stream,
        **({"stream_options": {"include_usage": True}} if stream else {}),
        **fields,
    }
    content = json.dumps(body).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"Connection: close\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def _stream(address: tuple[str, int], request: bytes, load: Load) -> None:
    """Read one reply as cheaply as can be: no parsing but of its end."""
    began = last = perf_counter()
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request)
    seen, tail = 0, b""
    try:
        while data := await reader.read(65536):
            now = perf_counter()
            events = data.count(b'"delta"')
            if events:
                if seen:
                    load.gaps.append(now - last)
                else:
                    load.first.append(now - began)
                last = now
            seen += events
            tail = (tail + data)[-4000:]
    finally:
        writer.close()
    usage = re.findall(rb'"completion_tokens":\s*(\d+)', tail)
    if not usage or not (b"[DONE]" in tail or tail.endswith(b"}")):  # a stream, or a whole reply
        raise SystemExit(f"a reply broke: {tail[-500:]!r}")
    load.whole.append(perf_counter() - began)
    load.tokens += int(usage[-1])
    load.events += seen


async def _measure(server: Server, requests: Sequence[bytes], in_flight: int | None) -> Load:
    load, first = Load(len(requests)), Load(0)
    lanes = len(requests) if in_flight is None else in_flight
    waiting = iter(requests[lanes:])

    async def lane(request: bytes) -> None:
        await _stream(server.address, request, load if in_flight is None else first)
        for following in waiting:
            await _stream(server.address, following, load)

    idle, cpu, engine = server.resident_kib(), server.cpu_seconds(), server.engine_seconds()
    began, client = perf_counter(), process_time()
    running = asyncio.gather(*map(lane, requests[:lanes]))
    watching = asyncio.create_task(_peak(server))
    await running
    load.wall, load.cpu = perf_counter() - began, server.cpu_seconds() - cpu
    load.engine, load.client = server.engine_seconds() - engine, process_time() - client
    load.tokens, load.events = load.tokens + first.tokens, load.events + first.events
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    load.kib_per_stream = max(0, _PEAKS.pop(server.name, idle) - idle) / lanes
    return load


_PEAKS: dict[str, int] = {}


async def _peak(server: Server) -> None:
    """Follow the process's memory while streams are open."""
    while True:
        _PEAKS[server.name] = max(_PEAKS.get(server.name, 0), server.resident_kib())
        await asyncio.sleep(0.1)


def measure(server: Server, requests: Sequence[bytes], in_flight: int | None = None) -> Load:
    """Send all at once and read them to their ends.

    Or keep ``in_flight`` of them running: each of the others begins when one ends. The times of
    the first so many, which begin together, are left out then; their tokens and CPU are not.
    """
    return asyncio.run(_measure(server, requests, in_flight))


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the values lie (nearest rank); 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def milliseconds(values: Sequence[float]) -> str:
    """p50 / p99."""
    return f"{1000 * percentile(values, 0.5):.1f} / {1000 * percentile(values, 0.99):.1f}"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def about_this_machine() -> str:
    """One line for above a table; the load says how much to believe of times on the wall."""
    load = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0))
    return (
        f"{platform.machine()}, {cores} cores, load average {load:.1f} before the run, "
        f"Python {sys.version.split()[0]}"
    )
