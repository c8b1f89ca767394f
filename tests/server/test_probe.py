"""The health check that containers run: says what ``/ready`` says, by its exit code."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from extracot_server.engine.scripted.engine import ScriptedBehaviour
from extracot_server.runtime.probe import main
from tests.server.live import serve


def test_a_server_that_serves_is_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as live:
        assert main([live.url]) == 0
        assert main([f"{live.url}/health"]) == 0
        monkeypatch.setenv("EXTRACOT_PORT", live.url.rpartition(":")[2])
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # never asked
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert main([]) == 0
        command = [sys.executable, "-m", "extracot_server.runtime.probe"]
        assert subprocess.run(command, timeout=120).returncode == 0


def test_a_dead_engine_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with serve(ScriptedBehaviour(), on_engine_death="stay") as live:
        live.engine.die()
        assert main([live.url]) == 1
        assert main([f"{live.url}/health"]) == 0, "the process is"
    assert capsys.readouterr().err == f"{live.url}/ready: status 503\n"


def test_nobody_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    assert main([url]) == 1
    assert main(["no-url"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"{url}/ready: ") and "refused" in lines[0]
    assert len(lines) == 2 and "no-url" in lines[1]
