"""The soak: thousands of requests, a third of them left alone at some random point, on loopback.

    python -m tests.server.soak [--requests 20000] [--seed 1]

More come at once than may run and wait. At the end nothing may be held by the engine, the queue or
the process that was not held before, and what clients saw must agree with the counters.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.server.live import read_events, user, wait_for

WORKERS = 40  # more than the server runs (24) and lets wait (8)
BURSTS = 4  # of equal size; what is held after each but the first is compared
KINDS = {
    "stream": 30,
    "json": 20,
    "leave in stream": 25,
    "leave at once": 12,
    "half": 5,
    "wrong": 8,
}
BUDGETS = (None, 0.2, 0.6, "auto", "none", "native", {"ratio": 0.4, "max_reasoning_tokens": 9})
ABORTED_BY_RESET = struct.pack("ii", 1, 0)


@dataclass
class Seen:
    """What the clients saw."""

    sent: Counter[str] = field(default_factory=Counter)
    whole: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)


class Target:
    """The server process, and how to ask it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        self.url = self._stdout.readline().strip()
        host, port = self.url.removeprefix("http://").split(":")
        self.address = host, int(port)

    def holdings(self) -> dict[str, Any]:
        """What it holds now."""
        self._stdin.write("\n")
        self._stdin.flush()
        found: dict[str, Any] = json.loads(self._stdout.readline())
        return found

    def at_rest(self) -> dict[str, Any]:
        """The same, once every connection has been noticed to be gone."""
        last: dict[str, Any] = {}

        def quiet() -> bool:
            last.update(self.holdings())
            return not any(last[name] for name in ("in_engine", "running", "queued", "connections"))

        wait_for(quiet, 60.0)
        return self.holdings()

    def counters(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample of ``/metrics``."""
        text = httpx.get(f"{self.url}/metrics", headers={"connection": "close"}).text
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


@contextlib.contextmanager
def target() -> Iterator[Target]:
    """A server of its own."""
    command = [sys.executable, "-m", "tests.server.soak_server"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Target(process)
        finally:
            process.kill()


def body_of(rng: random.Random, kind: str) -> bytes:
    """A chat request, small enough that the machine lives through thousands."""
    fields: dict[str, Any] = {
        "messages": user(f"What is {rng.randrange(99)} + {rng.randrange(99)}?"),
        "max_tokens": rng.randrange(1, 40),
        "stream": "stream" in kind or (kind != "json" and rng.random() < 0.5),
        "n": rng.choice((1, 1, 1, 2)),
        "seed": rng.randrange(1000),
    }
    if (budget := rng.choice(BUDGETS)) is not None:
        fields["budget"] = budget
    if kind == "wrong":
        fields["budget"] = 7
    return json.dumps(fields).encode()


async def one(rng: random.Random, address: tuple[str, int], seen: Seen) -> None:
    """Send one request of a random kind, and note what came of it."""
    kind = rng.choices(tuple(KINDS), tuple(KINDS.values()))[0]
    body = body_of(rng, kind)
    reader, writer = await asyncio.open_connection(*address)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    head += "Connection: close\r\n\r\n"
    writer.write(head.encode() + (body[: len(body) // 2] if kind == "half" else body))
    seen.sent[kind] += 1
    try:
        if kind in ("stream", "json", "wrong"):
            note(kind, await reader.read(), seen)
        elif kind == "leave in stream":
            await leave_in_stream(reader, rng.randrange(1, 12), seen)
        elif rng.random() < 0.5:
            await asyncio.sleep(rng.random() / 50)
        if rng.random() < 0.3:  # hang up without a goodbye
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORTED_BY_RESET)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def leave_in_stream(reader: asyncio.StreamReader, events: int, seen: Seen) -> None:
    """Read this many events, or to the end if that comes first."""
    data = b""
    while data.count(b"\n\n") < events:
        part = await reader.read(500)
        if not part:
            break
        data += part
    if data.split(b" ", 2)[1] != b"200":
        note("left", data + await reader.read(), seen)


def note(kind: str, reply: bytes, seen: Seen) -> None:
    """Check a whole reply and add it up."""
    head, _, rest = reply.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    if b"chunked" in head:
        rest = unchunked(rest)
    if status != 200:
        code = json.loads(rest)["error"]["code"]
        expected = {"queue_full": 503, "invalid_value": 400}
        assert expected[code] == status, rest
        seen.refused[code] += 1
        return
    assert kind in ("stream", "json"), (kind, rest)
    if kind == "json":
        reports = [choice["budget"] for choice in json.loads(rest)["choices"]]
    else:
        *events, done = read_events(rest.decode())
        assert done == "[DONE]"
        chunks = [json.loads(event) for event in events]
        assert not any("error" in chunk for chunk in chunks)
        reports = [chunk["budget"] for chunk in chunks if "budget" in chunk]
    seen.whole += 1
    for report in reports:
        seen.tokens["reasoning"] += report["reasoning_tokens"]
        seen.tokens["answer"] += report["answer_tokens"]


def unchunked(rest: bytes) -> bytes:
    """A body without its chunked coding."""
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body


async def burst(requests: int, seed: int, address: tuple[str, int], seen: Seen) -> None:
    """Send so many, always as many at once as there are workers."""
    rng = random.Random(seed)
    left = iter(range(requests))

    async def work() -> None:
        for _ in left:
            await one(rng, address, seen)

    async with asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(work())


def check(before: dict[str, Any], after: dict[str, Any], requests: int) -> None:
    """Nothing is held that was not held before these requests."""
    assert after["ready"]
    for name in ("tasks", "files"):
        assert after[name] <= before[name], (name, before, after)
    # An object kept for each request would be at least one each; caches may still fill a little.
    assert after["objects"] - before["objects"] < requests / 10 + 500, (before, after)
    assert after["resident_kib"] - before["resident_kib"] < 8 * 1024 + requests, (before, after)


def check_counters(
    counters: dict[tuple[str, frozenset[tuple[str, str]]], float], seen: Seen
) -> None:
    """What clients saw against what was counted; who left at once may have been seen or not."""

    def total(name: str, **labels: str) -> float:
        wanted = set(labels.items())
        return sum(v for (found, has), v in counters.items() if found == name and wanted <= has)

    outcome = {
        name: total("extracot_requests_total", outcome=name)
        for name in ("ok", "length", "aborted", "error", "dropped")
    }
    assert outcome["error"] == outcome["dropped"] == 0, outcome
    in_stream = seen.sent["leave in stream"]
    served = outcome["ok"] + outcome["length"]
    assert seen.whole <= served <= seen.whole + in_stream + seen.sent["leave at once"]
    rejected = total("extracot_rejected_total")
    counted = sum(outcome.values()) + rejected
    owed = seen.sent.total() - seen.sent["half"]
    assert owed - seen.sent["leave at once"] <= counted <= owed, (outcome, rejected, seen)
    assert total("extracot_rejected_total", reason="invalid_value") == seen.refused["invalid_value"]
    assert total("extracot_rejected_total", reason="queue_full") >= seen.refused["queue_full"] > 0
    assert total("extracot_requests_in_flight") == total("extracot_requests_queued") == 0
    assert total("extracot_aborts_total", reason="disconnect") == outcome["aborted"] > 0
    for name in ("reasoning", "answer"):
        assert total(f"extracot_{name}_tokens_total") >= seen.tokens[name] > 0
    assert total("extracot_queue_seconds_count") <= sum(outcome.values())


def soak(requests: int, seed: int = 1) -> str:
    """Run it; a line that says what happened. Raises ``AssertionError`` where anything is off."""
    began, seen = perf_counter(), Seen()
    size = requests // BURSTS
    with target() as server:
        asyncio.run(burst(size, seed, server.address, seen))
        first = before = server.at_rest()
        for number in range(1, BURSTS):
            asyncio.run(burst(size, seed + number, server.address, seen))
            after = server.at_rest()
            check(before, after, size)
            before = after
        check_counters(server.counters(), seen)
        check(first, after, size * (BURSTS - 1))
    grown = (after["resident_kib"] - first["resident_kib"]) / 1024
    return (
        f"{seen.sent.total()} requests in {perf_counter() - began:.0f} s: {seen.whole} whole, "
        f"{seen.refused['queue_full']} refused for a full queue, "
        f"{seen.sent['leave in stream']} left in the stream, {seen.sent['leave at once']} at once, "
        f"{seen.sent['half']} half sent; in the engine at the end: {after['in_engine']}; "
        f"memory {grown:+.1f} MiB ({first['resident_kib'] // 1024} MiB after the first quarter), "
        f"objects {after['objects'] - first['objects']:+d}"
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print(soak(args.requests, args.seed))


if __name__ == "__main__":
    main()
