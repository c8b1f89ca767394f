"""``--workers``: one port, one set of metrics, a worker that dies is replaced, and how all end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.server.key_files import bearer, write
from tests.server.live import read_chunks, user, wait_for

COMMAND = [sys.executable, "-m", "extracot_server.cli", "--engine", "scripted"]
PATIENCE = 180.0


@dataclass
class Server:
    """A parent and its workers."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    known: set[int] = field(default_factory=set)

    def said(self) -> str:
        return self.log.read_text()

    def workers(self) -> list[int]:
        """The processes it has now."""
        pid = self.process.pid
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [number for number in map(int, found) if running(number)]

    def serving(self, count: int = 2) -> bool:
        """Whether so many workers serve: each shows itself in metrics."""
        return len(self.workers()) == count and self.sample("extracot_requests_in_flight") == 0

    def sample(self, name: str, **labels: str) -> float | None:
        """The sum of a metric's samples with these labels; ``None`` if it has none."""
        text = httpx.get(f"{self.url}/metrics", timeout=60).text
        values = [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(values) if values else None

    def chat(self, **fields: object) -> httpx.Response:
        """One request on a connection of its own."""
        body = {"messages": user(), **fields}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=120)


def running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextmanager
def started(folder: Path, *arguments: str, workers: int = 2) -> Iterator[Server]:
    """A server all of whose workers serve."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    log = folder / f"{port}.log"
    command = [*COMMAND, "--port", str(port), "--workers", str(workers), *arguments]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stderr=output, start_new_session=True)
    server = Server(process, f"http://127.0.0.1:{port}", log)
    try:
        wait_for(lambda: process.poll() is not None or "curl" in server.said(), PATIENCE)
        assert process.poll() is None, server.said()
        wait_for(lambda: len(all_ready(server)) >= workers, PATIENCE)
        yield server
    finally:
        left = server.workers() if process.poll() is None else []
        for number in (process.pid, *left):
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait(30)


def all_ready(server: Server) -> set[int]:
    """Workers that have answered a request of their own, with the others held up."""
    for pid in set(server.workers()) - server.known:
        with alone(server, pid), httpx.Client(timeout=2.0) as client:
            try:
                if client.get(f"{server.url}/ready").status_code == 200:
                    server.known.add(pid)
            except httpx.TransportError:
                pass
    return server.known & set(server.workers())


@contextmanager
def alone(server: Server, pid: int) -> Iterator[None]:
    """Stop every worker but this one, so that whoever connects is served by it."""
    others = [other for other in server.workers() if other != pid]
    for other in others:
        os.kill(other, signal.SIGSTOP)
    try:
        yield
    finally:
        for other in others:
            if running(other):
                os.kill(other, signal.SIGCONT)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with started(tmp_path_factory.mktemp("workers"), "--holdout-fraction", "0.5") as found:
        yield found


def test_metrics_are_those_of_all_workers_whoever_is_asked(server: Server) -> None:
    before = server.sample("extracot_requests_total") or 0.0
    for pid in server.workers():
        with alone(server, pid):
            for _ in range(40):
                assert server.chat(budget=0.2).status_code == 200
    seen = []
    for pid in server.workers():
        with alone(server, pid):
            assert server.sample("extracot_requests_total") == before + 80
            assert server.sample("extracot_request_duration_seconds_count") == before + 80
            assert server.sample("extracot_requests_in_flight") == 0
            assert server.sample("extracot_requests_queued") == 0
            assert server.sample("extracot_build_info") == 1
            assert server.sample("extracot_engine_up", model="scripted") == 1
            level = {"model": "scripted", "budget": "0.2"}
            assert (server.sample("extracot_card_expected_ratio", **level) or 9) < 1
            seen.append([server.sample(f"extracot_holdout_saving_{e}tokens") for e in ("", "low_")])
    assert seen[0] == seen[1]
    replies = [server.sample("extracot_holdout_replies_total", arm=arm) or 0 for arm in ARMS]
    tokens = [server.sample("extracot_holdout_reasoning_tokens_total", arm=a) or 0 for a in ARMS]
    assert min(replies) >= 10, "too few for an interval: the draw is 1 in 2 of 80"
    native, budgeted = (total / count for total, count in zip(tokens, replies, strict=True))
    assert seen[0][0] == pytest.approx(native - budgeted)


ARMS = ("holdout", "budgeted")


def test_reasoning_that_one_worker_sealed_is_opened_by_the_other(server: Server) -> None:
    first, second = server.workers()

    def respond(pid: int, **fields: object) -> dict[str, object]:
        with alone(server, pid):
            reply = httpx.post(f"{server.url}/v1/responses", json=fields, timeout=60)
        assert reply.status_code == 200, reply.text
        found: dict[str, object] = reply.json()
        return found

    wanted = {"include": ["reasoning.encrypted_content"], "include_reasoning": False}
    said = respond(first, input="What is 2 + 2?", **wanted)["output"]
    assert isinstance(said, list) and said[0]["encrypted_content"]
    for pid in (first, second):
        again = respond(pid, input=[*said, *user()])["budget"]
        assert isinstance(again, dict) and again["ignored_fields"] == []


def test_a_worker_that_dies_is_replaced_and_what_it_counted_stays(server: Server) -> None:
    assert server.chat().status_code == 200
    counted = server.sample("extracot_requests_total")
    first, second = server.workers()
    with httpx.Client(base_url=server.url, timeout=60) as client:
        body = {"messages": user(), "stream": True, "n": 16, "max_tokens": 4000, "ignore_eos": True}
        sent = client.stream("POST", "/v1/chat/completions", json=body)
        with alone(server, first), sent as stream:
            pieces = stream.iter_raw()
            next(pieces)
            os.kill(first, signal.SIGKILL)
            with pytest.raises(httpx.TransportError):
                list(pieces)
    assert server.chat().status_code == 200, "the other one serves"
    wait_for(lambda: first not in server.workers(), PATIENCE)
    wait_for(lambda: len(all_ready(server)) == 2, PATIENCE)
    assert second in server.workers() and first not in server.workers()
    assert f"worker 0 ({first}) ended with signal 9" in server.said() or (
        f"worker 1 ({first}) ended with signal 9" in server.said()
    )
    wait_for(lambda: server.sample("extracot_requests_in_flight") == 0)
    assert (server.sample("extracot_requests_total") or 0) == (counted or 0) + 1
    assert server.sample("extracot_build_info") == 1


def test_a_worker_that_starts_on_a_broken_file_goes_on_with_what_the_others_have(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "keys.yaml", {"name": "one", "key": "sk-one"})
    with started(tmp_path, "--keys", str(path)) as server:
        write(path, {"name": "two", "key": "sk-two"})
        os.kill(server.process.pid, signal.SIGHUP)

        def status(key: str) -> int:
            return httpx.get(f"{server.url}/v1/models", headers=bearer(key)).status_code

        for pid in server.workers():
            with alone(server, pid):
                wait_for(lambda: (status("sk-one"), status("sk-two")) == (401, 200))
        path.write_text("keys: [oops")
        os.kill(server.process.pid, signal.SIGHUP)

        def replace(victim: int) -> None:
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda: victim not in server.workers() and len(all_ready(server)) == 2)

        for victim in server.workers():  # then none is left that read a right file
            replace(victim)
        assert "not YAML" in server.said() and "the current keys stay in force" in server.said()
        assert server.sample("extracot_keys_last_reload_successful") == 0
        for pid in server.workers():
            with alone(server, pid):
                assert (status("sk-one"), status("sk-two")) == (401, 200)
        write(path, {"name": "three", "key": "sk-three"})
        os.kill(server.process.pid, signal.SIGHUP)
        for pid in server.workers():
            with alone(server, pid):
                wait_for(lambda: (status("sk-two"), status("sk-three")) == (401, 200))
        assert server.sample("extracot_keys_last_reload_successful") == 1


def test_keys_are_read_again_by_every_worker_and_sigterm_drains_all(tmp_path: Path) -> None:
    path = write(tmp_path / "keys.yaml", {"name": "one", "key": "sk-one"})
    with started(tmp_path, "--keys", str(path), "--grace-seconds", "120") as server:
        assert "2 workers" in server.said()
        write(path, {"name": "two", "key": "sk-two"})
        os.kill(server.process.pid, signal.SIGHUP)

        def knows(key: str) -> bool:
            headers = bearer(key)
            return httpx.get(f"{server.url}/v1/models", headers=headers).status_code == 200

        for pid in server.workers():
            with alone(server, pid):
                wait_for(lambda: knows("sk-two") and not knows("sk-one"))
        body = {"messages": user("How many? " * 20), "stream": True, "n": 16, "ignore_eos": True}
        body["max_tokens"] = 400
        with ExitStack() as stack:
            streams = []
            for pid in server.workers():  # one running stream at each of them
                client = httpx.Client(base_url=server.url, timeout=120, headers=bearer("sk-two"))
                stack.enter_context(client)
                with alone(server, pid):
                    sent = client.stream("POST", "/v1/chat/completions", json=body)
                    stream = stack.enter_context(sent)
                    pieces = stream.iter_text()
                    streams.append((pieces, next(pieces)))
            server.process.send_signal(signal.SIGTERM)
            for pieces, first in streams:
                chunks = read_chunks(first + "".join(pieces))
                ends = [c["finish_reason"] for k in chunks for c in k["choices"]]
                assert len([end for end in ends if end is not None]) == 16
        assert server.process.wait(60) == 0
        assert "Traceback" not in server.said()


def test_nobody_is_let_wait_by_a_server_that_stops(tmp_path: Path) -> None:
    with started(tmp_path, "--grace-seconds", "600") as server:
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))

        def refused() -> bool:
            try:
                socket.create_connection(address, 60).close()
            except ConnectionRefusedError:
                return True
            return False

        body = json.dumps({"messages": user()}).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        with socket.create_connection(address, 60) as client:
            client.sendall(head.encode())
            assert b" 100 " in client.recv(4096)  # a worker waits for the rest, and has to finish
            server.process.send_signal(signal.SIGTERM)
            wait_for(refused)
            assert server.process.poll() is None
            client.sendall(body)
            assert client.recv(4096).startswith(b"HTTP/1.1 503 ")
        assert server.process.wait(60) == 0


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    with started(tmp_path) as server:
        left = server.workers()
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(30)
        wait_for(lambda: not any(map(running, left)), PATIENCE)


def test_a_start_that_fails_is_said_once(tmp_path: Path) -> None:
    card = tmp_path / "card.json"
    card.write_text(json.dumps({"version": 99}))
    command = [*COMMAND, "--port", "0", "--workers", "3", "--card", str(card)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if "error:" in line]
    assert len(errors) == 1 and re.search("version", errors[0])


TWO_WORKERS = """
import os, signal, traceback
from prometheus_client import CollectorRegistry, generate_latest
from extracot_server.observability.metrics import ServerMetrics
from extracot_server.observability.worker_metrics import forget, in_workers, registry_of_workers

assert in_workers()

def work(up, tell):
    metrics = ServerMetrics(CollectorRegistry())
    metrics.routing.up.labels("m", "http://gpu:8000").set(up)
    metrics.engine_up.labels("m").set(up)
    metrics.routing.running.labels("m", "http://gone:8000").set(2)
    forget(metrics.routing.running, "m", "http://gone:8000")
    metrics.in_flight.inc(3)
    metrics.requests.labels("m", "0.2", "budget", "ok").inc()
    os.write(tell, b"1")
    signal.pause()

workers = []
try:
    for up in (1, 0):
        ready, tell = os.pipe()
        if not (pid := os.fork()):
            try:
                work(up, tell)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        workers.append(pid)
        os.close(tell)  # so that a worker that ends is read as nothing
        assert os.read(ready, 1), "a worker has failed"
    print(generate_latest(registry_of_workers()).decode())
finally:
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
"""


def test_what_one_worker_cannot_reach_is_down_for_all(tmp_path: Path) -> None:
    variables = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    command = [sys.executable, "-c", TWO_WORKERS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=variables)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert 'extracot_upstream_up{model="m",upstream="http://gpu:8000"} 0.0' in lines
    assert 'extracot_engine_up{model="m"} 0.0' in lines
    assert "extracot_requests_in_flight 6.0" in lines
    assert "gone" not in done.stdout and "NaN" not in done.stdout  # one NaN makes a sum NaN
    assert any(line.startswith("extracot_requests_total{") and line[-3:] == "2.0" for line in lines)
    # Of what they have not asked yet, nothing is down: a worker that starts is no lost store.
    for name in ("usage_store_up", "keys_last_reload_successful"):
        assert f"extracot_{name} 1.0" in lines
    # Each process by itself: one of them may be busy, whoever is asked.
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes"):
        found = [re.match(rf'{name}{{pid="(\d+)"}} \S+$', line) for line in lines]
        assert len({match[1] for match in found if match}) == 2
        assert len([line for line in lines if line.startswith(f"# TYPE {name} ")]) == 1


def test_the_variable_of_many_workers_is_nothing_to_one(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    variables = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    command = [*COMMAND, "--port", "0", "--card", str(tmp_path / "none.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=variables)
    assert "PROMETHEUS_MULTIPROC_DIR is for several workers" in done.stderr
    assert not list(folder.iterdir())
