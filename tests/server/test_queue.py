"""The queue over HTTP: what waits, who is next, what is refused and how, and a client that leaves.

The engine holds every request until the test lets it go, so nothing depends on time.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from extracot_server.engine.base import GenerationDelta, GenerationRequest
from extracot_server.engine.scripted.engine import ScriptedBehaviour, ScriptedEngine
from tests.server.live import Live, read_chunks, read_events, serve, user
from tests.server.test_process import started

KEYS: dict[str, dict[str, Any]] = {
    "alice": {},
    "bob": {},
    "vip": {"priority": -1},
    "low": {"priority": 1},
    "pair": {"concurrency": 2},
    "thrice": {"requests_per_minute": 3},
}


class HeldEngine(ScriptedEngine):
    """Holds what arrives until it is let go; ``arrived`` are the requests' names in order."""

    def __init__(self, behaviour: ScriptedBehaviour | None = None) -> None:
        super().__init__(behaviour)
        self.arrived: list[str] = []
        self.free: set[str] = set()
        self.all_free = False

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta, None]:
        name = request.request_id.rsplit("-", 2)[0]
        self.arrived.append(name)
        while not self.all_free and name not in self.free:
            await asyncio.sleep(0.002)
        async for delta in super().generate(request):
            yield delta


class Queue:
    """A server in front of a held engine, and requests with names sent to it."""

    def __init__(self, live: Live, pool: ThreadPoolExecutor) -> None:
        self.live, self.pool = live, pool
        self.engine: HeldEngine = live.engine
        self.replies: dict[str, Future[httpx.Response]] = {}

    def send(self, name: str, **fields: Any) -> None:
        """Send a request and return when the server has it; its key is the name's first part."""
        before = self.seen()
        body = {"messages": user(), **fields}
        headers = {"authorization": f"Bearer {name.split('.')[0]}", "x-request-id": name}
        self.replies[name] = self.pool.submit(
            httpx.post,
            f"{self.live.url}/v1/chat/completions",
            json=body,
            headers=headers,
            timeout=60,
        )
        self.live.wait_for(lambda: self.seen() > before)

    def seen(self) -> float:
        """Requests that run, wait or have ended."""
        gauges = self.metric("requests_in_flight") + self.metric("requests_queued")
        return gauges + self.metric("rejected_total") + self.metric("requests_total")

    def metric(self, name: str, **labels: str) -> float:
        return self.live.metric_sum(f"extracot_{name}", **labels)

    def reply(self, name: str) -> httpx.Response:
        return self.replies[name].result(60)

    def refused(self, name: str, status: int, code: str) -> httpx.Response:
        """A request that must be refused so."""
        response = self.reply(name)
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["param"]) == (status, code, None)
        kind = "service_unavailable_error" if status == 503 else "rate_limit_error"
        assert error["type"] == kind
        assert 1 <= int(response.headers["retry-after"]) <= 60
        assert response.headers["x-request-id"] == name
        return response

    def finish(self) -> None:
        """Let all go and check that each got its reply, or was refused."""
        self.engine.all_free = True
        for future in self.replies.values():
            assert future.result(60).status_code in (200, 429, 503)
        self.live.wait_for(lambda: self.metric("requests_in_flight") == 0)
        assert self.metric("requests_queued") == 0


@contextmanager
def queue(path: Path, engine: HeldEngine | None = None, **settings: Any) -> Iterator[Queue]:
    """A server with the keys of ``KEYS``, each its own name."""
    entries = [{"name": name, "key": name, **rest} for name, rest in KEYS.items()]
    (path / "keys.yaml").write_text(yaml.safe_dump({"keys": entries}))
    held = engine or HeldEngine()
    with (
        serve(on=held, keys=path / "keys.yaml", **settings) as live,
        ThreadPoolExecutor(32) as pool,
    ):
        waiting = Queue(live, pool)
        try:
            yield waiting
        finally:
            held.all_free = True
        waiting.finish()


def test_a_bounded_queue(tmp_path: Path) -> None:
    with queue(tmp_path, max_running=1, max_queued=2) as q:
        q.send("alice.1")
        q.send("alice.2")
        q.send("alice.3", stream=True)
        assert (q.metric("requests_in_flight"), q.metric("requests_queued")) == (1, 2)
        q.send("alice.4")
        q.send("alice.5", stream=True)
        for name in ("alice.4", "alice.5"):
            q.refused(name, 503, "queue_full")
        assert q.metric("rejected_total", reason="queue_full") == 2
        assert q.engine.arrived == ["alice.1"]
        q.engine.all_free = True
        for name in ("alice.1", "alice.2", "alice.3"):
            assert q.reply(name).status_code == 200
        assert read_chunks(q.reply("alice.3").text)[-1]["choices"][0]["finish_reason"] == "stop"
        assert q.metric("requests_total", outcome="ok") == 3
        assert q.metric("requests_total") == 3, "what is refused is not served"
        assert q.metric("queue_seconds_count") == 3
        assert q.metric("queue_seconds_bucket", le="0.0") == 0


def test_priority_first_then_turns(tmp_path: Path) -> None:
    sent = ["alice.1", "alice.2", "alice.3", "alice.4", "low.1", "bob.1", "bob.2", "vip.1", "vip.2"]
    with queue(tmp_path, max_running=1) as q:
        for name in sent:
            q.send(name)
        assert q.metric("requests_queued") == 8
        q.engine.all_free = True
        for name in sent:
            assert q.reply(name).status_code == 200
        expected = "alice.1 vip.1 vip.2 alice.2 bob.1 alice.3 bob.2 alice.4 low.1"
        assert q.engine.arrived == expected.split()
        priorities = [request.priority for request in q.engine.requests]
        assert priorities == [0, -1, -1, 0, 0, 0, 0, 0, 1]


def test_one_key_cannot_fill_the_queue_for_all(tmp_path: Path) -> None:
    with queue(tmp_path, max_running=1, max_queued=3) as q:
        for name in ("alice.1", "alice.2", "alice.3", "alice.4"):
            q.send(name)
        q.send("bob.1")
        q.refused("alice.4", 503, "queue_full")
        q.send("vip.1")
        q.refused("alice.3", 503, "queue_full")
        assert q.metric("requests_queued") == 3
        q.engine.all_free = True
        for name in ("alice.1", "alice.2", "bob.1", "vip.1"):
            assert q.reply(name).status_code == 200


def test_limits_of_a_key(tmp_path: Path) -> None:
    with queue(tmp_path) as q:
        for name in ("pair.1", "pair.2", "pair.3"):
            q.send(name)
        q.refused("pair.3", 429, "concurrency")
        for name in ("thrice.1", "thrice.2", "thrice.3", "thrice.4"):
            q.send(name)
        response = q.refused("thrice.4", 429, "rate_limit_exceeded")
        assert "3 requests a minute" in response.text
        q.send("alice.1")  # others are not concerned
        q.engine.free |= {"pair.1", "alice.1"}
        assert q.reply("pair.1").status_code == q.reply("alice.1").status_code == 200
        q.live.wait_for(lambda: q.metric("requests_in_flight") == 4)
        q.send("pair.4")
        q.engine.all_free = True
        assert q.reply("pair.4").status_code == 200
        assert q.metric("rejected_total", reason="concurrency") == 1
        assert q.metric("rejected_total", reason="rate_limit_exceeded") == 1


def test_waiting_counts_as_one_of_a_keys_requests(tmp_path: Path) -> None:
    with queue(tmp_path, max_running=1) as q:
        for name in ("pair.1", "pair.2", "pair.3"):
            q.send(name)
        q.refused("pair.3", 429, "concurrency")


def test_a_wrong_request_costs_nothing(tmp_path: Path) -> None:
    with queue(tmp_path) as q:
        for index in range(5):
            q.send(f"thrice.bad{index}", budget="fast")
            assert q.reply(f"thrice.bad{index}").status_code == 400
        q.engine.all_free = True
        q.send("thrice.good")
        assert q.reply("thrice.good").status_code == 200
        q.replies = {"thrice.good": q.replies["thrice.good"]}


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_the_queue_is_forgotten(tmp_path: Path, stream: bool) -> None:
    with queue(tmp_path, max_running=1) as q:
        q.send("alice.1")
        body = json.dumps({"messages": user(), "stream": stream})
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer bob\r\n"
        with socket.create_connection(("127.0.0.1", int(q.live.url.rpartition(":")[2]))) as raw:
            raw.sendall(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
            q.live.wait_for(lambda: q.metric("requests_queued") == 1)
        q.live.wait_for(lambda: q.metric("requests_queued") == 0)
        q.live.wait_for(lambda: q.metric("requests_total", outcome="aborted") == 1)
        q.engine.all_free = True
        assert q.reply("alice.1").status_code == 200
        q.live.wait_for(lambda: q.metric("requests_in_flight") == 0)
        assert q.engine.arrived == ["alice.1"]
        assert q.metric("aborts_total", reason="disconnect") == 1
        assert q.metric("queue_seconds_count") == 1


def test_a_stream_that_waits_long_is_kept_alive(tmp_path: Path) -> None:
    """After the first heartbeat the status is out; a refusal is an event then."""
    with queue(tmp_path, max_running=1, max_queued=2, heartbeat_seconds=0.05) as q:
        q.send("alice.1")
        url = f"{q.live.url}/v1/chat/completions"
        headers = {"authorization": "Bearer low"}
        body = {"messages": user(), "stream": True}
        with (
            httpx.stream("POST", url, json=body, headers=headers, timeout=60) as stays,
            httpx.stream("POST", url, json=body, headers=headers, timeout=60) as goes,
        ):
            assert stays.status_code == goes.status_code == 200
            lines = goes.iter_lines()
            assert next(lines).startswith(": ")
            q.send("vip.1")
            events = read_events(("\n".join(lines) + "\n").lstrip())
            assert json.loads(events[0])["error"]["code"] == "queue_full"
            assert events[1] == "[DONE]"
            q.engine.all_free = True
            text = "\n".join(stays.iter_lines()) + "\n"
            assert text.startswith(": ")
            assert read_chunks(text)[-1]["choices"][0]["finish_reason"] == "stop"
        assert q.reply("vip.1").status_code == 200


def test_an_engine_that_fails_gives_its_turn_back(tmp_path: Path) -> None:
    engine = HeldEngine(ScriptedBehaviour(fail_after_tokens=3))
    with queue(tmp_path, engine, max_running=1) as q:
        q.send("alice.1")
        q.send("alice.2")
        engine.all_free = True
        assert q.reply("alice.1").status_code == q.reply("alice.2").status_code == 500
        q.replies.clear()


def test_without_keys_and_limits_nothing_waits() -> None:
    with serve(on=HeldEngine()) as live, ThreadPoolExecutor(40) as pool:
        futures = [pool.submit(live.post) for _ in range(40)]
        live.wait_for(lambda: live.metric_sum("extracot_requests_in_flight") == 40)
        assert live.metric_sum("extracot_requests_queued") == 0
        live.engine.all_free = True
        assert {future.result(60).status_code for future in futures} == {200}


def test_sigterm_refuses_who_waits_and_finishes_what_runs() -> None:
    with started("--max-running", "1") as (process, url, _):
        body = {"messages": user("How many? " * 20), "n": 16, "ignore_eos": True}
        body |= {"max_tokens": 2000, "stream": True}
        where = f"{url}/v1/chat/completions"
        with (
            ThreadPoolExecutor(1) as pool,
            httpx.stream("POST", where, json=body, timeout=60) as running,
        ):
            lines = running.iter_lines()
            first = next(lines)
            waits = pool.submit(httpx.post, where, json={"messages": user()}, timeout=60)
            while "extracot_requests_queued 1.0" not in httpx.get(f"{url}/metrics").text:
                assert not waits.done(), "the running one ended too soon"
            process.send_signal(signal.SIGTERM)
            refused = waits.result(60)
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "server_stopping"
            assert int(refused.headers["retry-after"]) >= 1
            text = first + "\n" + "\n".join(lines) + "\n"
        reasons = [c["choices"][0]["finish_reason"] for c in read_chunks(text)]
        assert reasons.count("length") == 16
        assert process.wait(60) == 0
