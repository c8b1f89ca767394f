"""Faults of real vLLM, each caused for real: one server process, and engines that come and go.

The tests go on from one another and must keep their order; the last one kills the server.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fixtures.tiny_model import build_tiny_model
from tests.server.engine.running import engine_process
from tests.server.live import read_chunks, read_events, user, wait_for
from tests.server.test_process import COMMAND, free_port

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

PATIENCE = 300.0  # seconds; a start takes ten on an idle machine
CONTEXT = 8192  # a reply so long outlasts a client that is starved of its core
KV_TOKENS = CONTEXT + 256
KV_BYTES = 2 * 2 * 1 * 64 * 4 * KV_TOKENS  # 2 (K, V) * layers * heads * width * 4 bytes a token


@dataclass
class Server:
    """``extracot-serve`` with a small engine."""

    process: subprocess.Popen[bytes]
    url: str
    http: httpx.Client

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples with these labels."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.http.get("/metrics").text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def ready(self) -> tuple[int, str]:
        """What ``/ready`` says."""
        response = self.http.get("/ready")
        return response.status_code, response.json()["status"]

    def engine(self) -> int:
        """A descriptor of its engine process (not a number, which another could get)."""
        return os.pidfd_open(engine_process(self.process.pid))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It restarts what dies, and takes ten seconds of silence for a stall."""
    with started(tmp_path_factory.mktemp("faults"), grace=1) as found:
        yield found


@contextmanager
def started(folder: Path, grace: int) -> Iterator[Server]:
    """A server in a process group of its own, ready."""
    model, port, log = folder / "tiny", free_port(), folder / "log"
    build_tiny_model(model, context=CONTEXT)
    options = [
        *("--model", str(model), "--port", str(port), "--grace-seconds", str(grace)),
        *("--vllm", f"max_model_len={CONTEXT}", "--vllm", f"kv_cache_memory_bytes={KV_BYTES}"),
        *("--engine-stall-seconds", "10", "--health-interval-seconds", "0.3"),
    ]
    url = f"http://127.0.0.1:{port}"
    with (
        log.open("wb") as said,
        subprocess.Popen(
            [*COMMAND, *options], stderr=said, stdout=said, start_new_session=True
        ) as process,
        httpx.Client(base_url=url, timeout=PATIENCE) as http,
    ):
        try:
            wait_for(lambda: process.poll() is not None or is_up(http), PATIENCE)
            assert process.poll() is None, log.read_text()
            yield Server(process, url, http)
        finally:
            process.kill()
            print(log.read_text(), file=sys.stderr)  # shown where a test fails


def is_up(http: httpx.Client) -> bool:
    try:
        return http.get("/ready").status_code == 200
    except httpx.TransportError:
        return False


def ended(process: int) -> bool:
    return bool(select.select([process], [], [], 0)[0])


def body(**fields: Any) -> dict[str, Any]:
    return {"messages": user(), "ignore_eos": True, **fields}


def stream_until_told(server: Server, **fields: Any) -> Iterator[str]:
    """The lines of an endless stream; the first one has come when this returns."""
    whole = body(stream=True, **{"max_tokens": CONTEXT - 200, **fields})
    with server.http.stream("POST", "/v1/chat/completions", json=whole) as response:
        yield from response.iter_lines()


def last_words(lines: Iterator[str], first: str) -> str:
    """The code of the error that a broken stream ends in, before its ``[DONE]``."""
    *_, error, done = read_events(first + "\n" + "\n".join(lines) + "\n")
    assert done == "[DONE]"
    code: str = json.loads(error)["error"]["code"]
    return code


def test_out_of_kv_cache_every_reply_is_still_whole(server: Server) -> None:
    """More requests than fit: some are preempted, computed again, and none is cut short."""

    def ask(seed: int) -> list[dict[str, Any]]:
        whole = body(stream=True, max_tokens=500, seed=seed)
        return read_chunks(server.http.post("/v1/chat/completions", json=whole).text)

    asked = KV_TOKENS // 500 + 4
    with ThreadPoolExecutor(asked) as pool:
        replies = list(pool.map(ask, range(asked)))
    for chunks in replies:
        report = next(chunk["budget"] for chunk in chunks if "budget" in chunk)
        counts = (report[f"{name}_tokens"] for name in ("reasoning", "answer", "overhead"))
        assert sum(counts) - report["injected_tokens"] == 500
    assert server.metric("vllm:num_preemptions_total") > 0
    assert server.metric("extracot_requests_total", outcome="length") == asked
    assert server.metric("extracot_requests_in_flight") == 0
    assert server.ready() == (200, "ready")


def test_a_prompt_larger_than_the_cache_is_refused(server: Server) -> None:
    response = server.http.post(
        "/v1/chat/completions", json={"messages": user("many words " * CONTEXT)}
    )
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"


def test_a_killed_engine_is_replaced(server: Server) -> None:
    engine, lines = server.engine(), stream_until_told(server)
    first = next(lines)
    signal.pidfd_send_signal(engine, signal.SIGKILL)
    assert last_words(lines, first) == "engine_unavailable"
    wait_for(lambda: server.ready() == (503, "engine restarting"))
    refused = server.http.post("/v1/chat/completions", json=body())
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "engine_unavailable")
    wait_for(lambda: server.ready()[0] == 200, PATIENCE)
    reply = server.http.post("/v1/chat/completions", json=body(max_tokens=8))
    assert reply.json()["usage"]["completion_tokens"] == 8
    wait_for(lambda: server.metric("extracot_engine_restarts_total", outcome="ok") == 1)
    assert server.metric("extracot_engine_up") == 1
    assert ended(engine)
    os.close(engine)


def test_a_stopped_engine_is_noticed_and_replaced(server: Server) -> None:
    engine, lines = server.engine(), stream_until_told(server)
    first = next(lines)
    signal.pidfd_send_signal(engine, signal.SIGSTOP)  # it lives, and does nothing
    assert last_words(lines, first) == "engine_unavailable"
    wait_for(lambda: ended(engine), PATIENCE)
    wait_for(lambda: server.ready()[0] == 200, PATIENCE)
    reply = server.http.post("/v1/chat/completions", json=body(max_tokens=8))
    assert reply.json()["usage"]["completion_tokens"] == 8
    wait_for(lambda: server.metric("extracot_engine_restarts_total", outcome="ok") == 2)
    os.close(engine)


def test_a_killed_server_under_load_leaves_nothing_behind(server: Server) -> None:
    engine, streams = server.engine(), [stream_until_told(server, seed=n) for n in range(4)]
    with ThreadPoolExecutor(4) as pool:  # at once, or the first ends while the last one waits
        list(pool.map(next, streams))
    server.process.send_signal(signal.SIGKILL)
    for lines in streams:
        with pytest.raises(httpx.TransportError):
            list(lines)
    wait_for(lambda: ended(engine), PATIENCE)
    os.close(engine)
    with pytest.raises(httpx.TransportError):
        server.http.get("/health")


def test_a_disk_that_is_full_while_the_model_is_prepared(tmp_path: Path) -> None:
    """No file may grow beyond 100 MB here, and the converted model is larger."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100 * 2**20, 100 * 2**20))

    done = subprocess.run(
        [*COMMAND, "--model", "smollm2", "--port", "0"],
        env={"PATH": "/usr/bin:/bin", "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)},
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("extracot-serve: error: ") and "bundled model" in last
    assert "Traceback" not in done.stderr
    left = [path for path in (tmp_path / "extracot" / "models").iterdir() if path.is_dir()]
    assert left == []  # nothing half made that a later start would take for a model


def test_ctrl_c_goes_to_all_processes_and_lets_a_reply_finish(tmp_path: Path) -> None:
    """A terminal sends it to the whole group, and a worker of vLLM would end at once."""
    with started(tmp_path, grace=600) as server:
        lines = stream_until_told(server, max_tokens=2000)
        first = next(lines)
        os.killpg(server.process.pid, signal.SIGINT)
        chunks = read_chunks(first + "\n" + "\n".join(lines) + "\n")
        assert chunks[-1]["choices"][0]["finish_reason"] == "length"
        assert server.process.wait(PATIENCE) == 0
