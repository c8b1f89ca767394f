"""Several front ends with one store, killed and cut off under load: quotas hold, nothing is counted
twice, and usage is what clients saw."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.server.key_files import bearer, write
from tests.server.live import user, wait_for
from tests.server.usage_stores import KINDS, StoreServer, postgres_server, redis_server

FRONT_ENDS = 4
QUOTA = 300
REQUESTS = 2000
PATIENCE = 180.0


@dataclass
class FrontEnd:
    """A server process of the test's own."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)


@dataclass
class Seen:
    """What clients were told: whole replies by key, and requests whose fate they do not know."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    replies: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    broken: dict[str, int] = field(default_factory=dict)


@dataclass
class Fleet:
    """Four front ends, their store's server (none for a file), and where they are."""

    front_ends: list[FrontEnd]
    store: StoreServer | None


@pytest.fixture(scope="module", params=KINDS)
def fleet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("shared")
    keys = write(
        folder / "keys.yaml",
        {"name": "many", "key": "sk-many", "quotas": [{"requests": QUOTA, "per": "month"}]},
        {"name": "free", "key": "sk-free"},
        {"name": "boss", "key": "sk-boss", "admin": True},
    )
    with ExitStack() as stack:
        store, url = None, str(folder / "usage.sqlite")
        if request.param != "sqlite":
            server = redis_server if request.param == "redis" else postgres_server
            store = stack.enter_context(server(tmp_path_factory.mktemp(request.param)))
            url = store.url
        found = [start(folder, keys, url, number) for number in range(FRONT_ENDS)]
        for front_end in found:
            stack.callback(front_end.kill)
        for front_end in found:
            wait_for(lambda f=front_end: "curl" in f.log.read_text(), PATIENCE)  # type: ignore[misc]
        yield Fleet(found, store)


def start(folder: Path, keys: Path, store: str, number: int) -> FrontEnd:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    log = folder / f"{number}.log"
    command = [sys.executable, "-m", "extracot_server.cli", "--engine", "scripted"]
    command += ["--port", str(port), "--keys", str(keys)]
    environment = {**os.environ, "EXTRACOT_USAGE_STORE": store}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stderr=output, env=environment)
    return FrontEnd(process, f"http://127.0.0.1:{port}", log)


def load(fleet: Fleet, seen: Seen, count: int, start_at: int, on: threading.Event) -> None:
    """So many requests, one after the other, to all front ends in turn."""
    body = {"messages": user(), "max_tokens": 24}
    clients = [httpx.Client(base_url=f.url, timeout=60) for f in fleet.front_ends]
    for number in range(start_at, start_at + count):
        key = "many" if number % 2 else "free"
        client = clients[(number // 2) % FRONT_ENDS]
        try:
            reply = client.post("/v1/chat/completions", json=body, headers=bearer(f"sk-{key}"))
        except httpx.TransportError:  # it was killed: what it had done, nobody was told
            with seen.lock:
                seen.broken[key] = seen.broken.get(key, 0) + 1
            continue
        with seen.lock:
            if reply.status_code == 429:
                seen.refused += 1
                continue
            assert reply.status_code == 200, reply.text
            seen.replies[key] = seen.replies.get(key, 0) + 1
            used = reply.json()["usage"]["total_tokens"]
            seen.tokens[key] = seen.tokens.get(key, 0) + used
            if sum(seen.replies.values()) > REQUESTS // 4:
                on.set()
    for client in clients:
        client.close()


@pytest.mark.slow
def test_quotas_hold_and_usage_adds_up_while_things_are_killed(fleet: Fleet) -> None:
    seen, under_way, threads = Seen(), threading.Event(), 8
    workers = [
        threading.Thread(target=load, args=(fleet, seen, REQUESTS // threads, n * 250, under_way))
        for n in range(threads)
    ]
    for worker in workers:
        worker.start()
    assert under_way.wait(PATIENCE)
    fleet.front_ends[3].kill()
    alive, uncounted = fleet.front_ends[:3], 0
    if fleet.store is not None:  # and then the store itself, for a while
        before = seen.replies["many"]
        fleet.store.kill()
        wait_for(lambda: any(gauge(f, "extracot_usage_store_up") == 0 for f in alive), PATIENCE)
        fleet.store.start()
        wait_for(lambda: all(gauge(f, "extracot_usage_store_up") == 1 for f in alive), PATIENCE)
        uncounted = seen.replies["many"] - before  # served without a look at the quota: the rule
    for worker in workers:
        worker.join(PATIENCE)
    wait_for(lambda: not any(gauge(f, "extracot_usage_unwritten_requests") for f in alive))
    asked = httpx.get(f"{alive[0].url}/v1/usage", headers=bearer("sk-boss"), timeout=60)
    rows = {row["key"]: row for row in asked.json()["data"]}
    assert rows.keys() == {"many", "free"}
    for key in ("many", "free"):
        row = rows[key]
        # The dead one may have told a client of a reply and not yet the store, or the store of one
        # whose client saw it break off.
        missing = seen.replies[key] - row["requests"]
        assert -seen.broken.get(key, 0) <= missing <= FRONT_ENDS, (row, seen)
        each = seen.tokens[key] / seen.replies[key]
        counted = row["prompt_tokens"] + row["completion_tokens"]
        assert counted == pytest.approx(each * row["requests"], rel=0.02)
    assert seen.refused > 0, "the quota was reached"
    assert seen.replies["many"] <= QUOTA + FRONT_ENDS + uncounted


def gauge(front_end: FrontEnd, name: str) -> float:
    text = httpx.get(f"{front_end.url}/metrics", timeout=60).text
    return float(next(li for li in text.splitlines() if li.startswith(f"{name} ")).split()[1])
