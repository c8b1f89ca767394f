"""More connections than a container's first limit of open files."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from extracot_server.runtime.file_limit import raise_file_limit
from tests.server.live import wait_for


def test_idle_connections_beyond_the_soft_limit_do_not_shut_others_out(tmp_path: Path) -> None:
    log = tmp_path / "log"
    serve = f"exec {sys.executable} -m extracot_server.cli --engine scripted --port 0"
    with log.open("wb") as stream, ExitStack() as stack:
        process = subprocess.Popen(["bash", "-c", f"ulimit -Sn 128; {serve}"], stderr=stream)
        stack.callback(process.wait)
        stack.callback(process.kill)
        wait_for(lambda: "ready after" in log.read_text(), 120)
        url = log.read_text().partition("ready after ")[2].partition(" at ")[2].split("/v1")[0]
        host, _, port = url.removeprefix("http://").partition(":")
        for _ in range(300):
            stack.enter_context(socket.create_connection((host, int(port))))
        assert httpx.get(f"{url}/ready").status_code == 200


@pytest.mark.parametrize(
    ("soft", "hard", "wanted"),
    [(1024, 4096, 4096), (1024, -1, 65_536), (1024, 10**6, 65_536), (10**5, 10**6, None),
     (-1, -1, None)],
)  # fmt: skip
def test_the_limit_is_raised_and_never_lowered(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, wanted: int | None
) -> None:
    made: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: made.append(limits))
    assert raise_file_limit() == (soft if wanted is None else wanted)
    assert made == ([] if wanted is None else [(wanted, hard)])


def test_a_system_that_refuses_keeps_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, -1))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_file_limit() == 256
