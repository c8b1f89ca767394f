"""How a server stops: what runs may finish, what does not is dropped and told so."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from typing import Any

import httpx
import pytest

from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.server.live import Live, read_events, serve, user

SLOW = ScriptedBehaviour(token_interval_seconds=0.02, never_close=True)
BODY: dict[str, Any] = {"messages": user(), "ignore_eos": True}


class Asking(threading.Thread):
    """A request on its way, read to its end."""

    def __init__(self, live: Live, **fields: Any) -> None:
        super().__init__(daemon=True)
        self.body, self.url = {**BODY, **fields}, live.url
        self.response: httpx.Response
        self.begun = threading.Event()
        self.start()
        live.wait_for(lambda: live.in_flight() > 0)
        if self.body.get("stream"):
            assert self.begun.wait(60)

    def run(self) -> None:
        """Ask."""
        url = f"{self.url}/v1/chat/completions"
        with httpx.stream("POST", url, json=self.body, timeout=60) as self.response:
            self.begun.set()
            self.response.read()

    def reply(self) -> httpx.Response:
        """What came."""
        self.join(60)
        assert not self.is_alive()
        return self.response


def count_of_drops(live: Live) -> tuple[float, float, float]:
    """Dropped requests; aborts by the server; aborts by clients."""
    labels = {"model": "scripted", "budget": "native", "source": "default", "outcome": "dropped"}
    return (
        live.counted("extracot_requests_total", **labels),
        live.counted("extracot_aborts_total", reason="shutdown"),
        live.counted("extracot_aborts_total", reason="disconnect"),
    )


@pytest.mark.parametrize("grace", [0.2, 600.0], ids=["grace over", "second stop"])
@pytest.mark.parametrize("n", [1, 3])
def test_a_dropped_stream_is_told(grace: float, n: int) -> None:
    with serve(SLOW, grace_seconds=grace) as live:
        asking = Asking(live, stream=True, n=n)
        for _ in range(2 if grace > 1 else 1):
            live.stop()
        *events, error, done = read_events(asking.reply().text)
        assert (json.loads(error)["error"]["code"], done) == ("server_stopping", "[DONE]")
        assert all(json.loads(event)["choices"][0]["finish_reason"] is None for event in events)
        assert count_of_drops(live) == (1, 1, 0)


def test_a_dropped_reply_is_a_503() -> None:
    with serve(SLOW, grace_seconds=600.0) as live:
        asking = Asking(live)
        live.stop()
        live.stop()
        response = asking.reply()
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "server_stopping"
        assert response.headers["retry-after"]
        assert count_of_drops(live) == (1, 1, 0)


def test_who_does_not_read_cannot_hold_the_server_up() -> None:
    """Its stream is dropped, and the goodbye never leaves: the connection is cut."""
    endless = ScriptedBehaviour(never_close=True, max_model_len=10**9)
    with serve(endless, grace_seconds=600.0) as live:
        body = json.dumps({**BODY, "stream": True}).encode()
        host, port = live.url.removeprefix("http://").split(":")
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
        with socket.create_connection((host, int(port))) as deaf:
            deaf.sendall(head.encode() + b"\r\n\r\n" + body)
            live.wait_for(lambda: live.in_flight() > 0)
            live.stop()
            live.stop()
            live.wait_for(lambda: live.engine._closed)
    # Leaving `serve` asserts that the server has stopped.


def test_one_stop_lets_a_reply_finish() -> None:
    with serve(ScriptedBehaviour(token_interval_seconds=0.01), grace_seconds=600.0) as live:
        asking = Asking(live, max_tokens=60)
        live.stop()
        assert asking.reply().status_code == 200
        assert count_of_drops(live) == (0, 0, 0)


def test_the_end_of_the_process_keeps_what_was_asked_for_and_frees_nothing() -> None:
    """Exit functions run and all that was said arrives; objects are left to the kernel."""
    program = """
import atexit, logging, sys
from logging.handlers import MemoryHandler
from extracot_server.runtime.leaving import leave

class Freed:
    def __del__(self): print("freed", file=sys.stderr, flush=True)

kept = Freed()
kept.itself = kept
atexit.register(lambda: print("at exit"))
logging.getLogger().addHandler(MemoryHandler(100, target=logging.StreamHandler(sys.stdout)))
logging.getLogger().warning("said before")
print("no line end", end="")
leave(3)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert (
        "at exit" in done.stdout and "said before" in done.stdout and "no line end" in done.stdout
    )


def test_an_end_that_nobody_reads_is_an_end() -> None:
    program = """
import sys
from extracot_server.runtime.leaving import leave
sys.stdin.read()
print("nobody is there any more")
leave(0)
"""
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=buffered,
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.close()
        process.stdin.close()
        assert process.wait(60) == 0
