"""A server process that is killed in mid-stream and started again, as its clients live it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from extracot_client import (
    ConnectionLostError,
    Extracot,
    ReasoningDelta,
    RetryPolicy,
    ServerUnreachableError,
)
from tests.clients.browser import free_port
from tests.clients.fake_server import WAIT

PROBLEM = "What is 2 + 2?"
SERVER = """
import sys
from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.clients.conftest import serve
slow = ScriptedBehaviour(token_interval_seconds=0.05, never_close=True)
with serve(slow if sys.argv[2] == "slow" else ScriptedBehaviour(), port=int(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.read()
"""


@contextmanager
def server_process(port: int, pace: str) -> Iterator[subprocess.Popen[str]]:
    """The real app in a process of its own; afterwards killed, if it is not yet."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(port), pace],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_a_server_that_dies_in_mid_stream_and_comes_back() -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "extracot_client.cli", "ask", PROBLEM, "--base-url", url]
    with Extracot(url, retry=RetryPolicy(max_retries=0)) as client:
        with (
            server_process(port, "slow") as process,
            subprocess.Popen(
                [*command, "--reasoning", "show"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as ask,
            client.stream(PROBLEM) as stream,
        ):
            first = next(iter(stream))
            assert isinstance(first, ReasoningDelta)
            assert ask.stdout is not None and ask.stdout.read(1)
            process.kill()
            with pytest.raises(ConnectionLostError) as caught:
                stream.result()
            assert caught.value.started and caught.value.partial_reasoning.startswith(first.text)
            out, err = ask.communicate(timeout=WAIT)
            assert ask.returncode == 1 and out.endswith("\n")
            assert err.startswith("extracot: ") and err.count("\n") == 1
            assert "in the middle of the reply" in err
        with pytest.raises(ServerUnreachableError):
            client.solve(PROBLEM)
        with server_process(port, "fast"):
            assert client.solve(PROBLEM, budget=0.2).boxed is not None
