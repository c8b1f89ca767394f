"""Tries an image: starts its server, asks it over HTTP, and stops it while a reply is on its way.

``python3 deploy/try_image.py --engine scripted -- buildah run CONTAINER`` (what follows ``--`` runs
a command inside). Standard library only: it runs on machines that have nothing of this project.
Exits with 0 when all of it held, else with 1 after one line on what did not.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

QUESTION = "What is 12 * 3 + 4?"
# A reply that is on its way when the signal comes: (choices, tokens of each). The scripted engine
# is so quick that only more than the sockets hold is.
LONG = {"scripted": (16, 4000), "vllm": (1, 200)}


class TrialError(Exception):
    """Something that should hold does not; the message is one line."""


def expect(held: object, what: str) -> None:
    """Say that ``what`` holds, or raise TrialError."""
    if not held:
        raise TrialError(f"not so: {what}")
    print(f"  {what}", flush=True)


def free_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(port: int, path: str) -> int:
    """The status of a GET; 0 if nothing listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def post(port: int, **fields: Any) -> http.client.HTTPResponse:
    """The response to a chat request, its body unread."""
    body = {"messages": [{"role": "user", "content": QUESTION}], **fields}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    headers = {"content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    return connection.getresponse()


def descendants(pid: int) -> Iterator[int]:
    """The processes below ``pid``, nearest first."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    level = [pid]
    while level:
        level = [child for parent in level for child in parents.get(parent, [])]
        yield from level


def first_process(pid: int) -> int:
    """The image's first process, which is the one a container engine would signal."""
    for child in (pid, *descendants(pid)):
        try:
            words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if Path(os.fsdecode(words[0])).name == "tini":
            return child
    raise TrialError("tini does not run")


def wait_ready(process: subprocess.Popen[bytes], port: int, seconds: float) -> None:
    """Until the engine serves."""
    deadline = time.monotonic() + seconds
    while get(port, "/ready") != 200:
        if process.poll() is not None:
            raise TrialError(f"the server ended with code {process.returncode}")
        if time.monotonic() > deadline:
            raise TrialError(f"not ready after {seconds:.0f} s")
        time.sleep(0.2)


def ask(port: int) -> None:
    """One reply and its report."""
    response = post(port, budget=0.2, max_tokens=128)
    reply = json.loads(response.read())
    expect(response.status == 200, "a chat request is answered")
    report = reply["budget"]
    expect(report["requested"] == 0.2, "its report names the budget asked for")
    expect(reply["usage"]["completion_tokens"] > 0, "tokens were made and counted")
    shown = {key: report[key] for key in ("enforcement", "reasoning_tokens", "answer_tokens")}
    print(f"  {json.dumps(shown)}", flush=True)


def drain(process: subprocess.Popen[bytes], port: int, engine: str) -> None:
    """SIGTERM in the middle of a stream: the stream ends as if nothing were, then the server."""
    n, tokens = LONG[engine]
    response = post(port, stream=True, n=n, max_tokens=tokens, budget="native", ignore_eos=True)
    begun = response.readline()  # from here on it runs
    expect(response.status == 200 and begun.startswith(b"data: "), "a stream has begun")
    os.kill(first_process(process.pid), signal.SIGTERM)
    # The server takes the signal in its own time; who is not let in tells that it has.
    deadline = time.monotonic() + 30
    while get(port, "/health") and time.monotonic() < deadline:
        time.sleep(0.02)
    expect(get(port, "/health") == 0, "after SIGTERM no request is accepted")
    expect(process.poll() is None, "but the server still runs")
    events = [line for line in response.read().split(b"\n") if line.startswith(b"data: ")]
    expect(events[-1] == b"data: [DONE]", "the stream goes on to [DONE]")
    chunks = [json.loads(event[6:]) for event in events[:-1]]
    ends = [choice["finish_reason"] for chunk in chunks for choice in chunk.get("choices", ())]
    expect(not any("error" in chunk for chunk in chunks), "without an error event")
    expect([end for end in ends if end] == ["length"] * n, "to its very last token")
    expect(process.wait(60) == 0, "then the server ends, with code 0")


def trial(engine: str, inside: list[str], seconds: float) -> None:
    """All of it, on one engine."""
    port = free_port()
    print(f"the {engine} engine:", flush=True)
    command = ["tini", "--", "extracot-serve", "--engine", engine]
    command += ["--host", "127.0.0.1", "--port", str(port), "--grace-seconds", "60"]
    command = [*inside, *command]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said: list[bytes] = []
    reading = threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True)
    reading.start()
    started = time.monotonic()
    try:
        wait_ready(process, port, seconds)
        expect(True, f"ready after {time.monotonic() - started:.0f} s")
        owner = Path(f"/proc/{first_process(process.pid)}").stat().st_uid
        expect(owner == 10001, "its processes are not root's")
        probe = [
            *inside,
            "python",
            "-m",
            "extracot_server.runtime.probe",
            f"http://127.0.0.1:{port}",
        ]
        expect(subprocess.run(probe, check=False).returncode == 0, "the health check says so too")
        ask(port)
        drain(process, port, engine)
    except BaseException:
        sys.stderr.buffer.write(b"".join(said[-20:]))
        raise
    finally:
        if process.poll() is None:
            for child in descendants(process.pid):
                os.kill(child, signal.SIGKILL)
            process.kill()


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Try an image.")
    parser.add_argument("--engine", choices=sorted(LONG), default="scripted")
    parser.add_argument("--seconds", type=float, default=300, help="until it must be ready")
    parser.add_argument("inside", nargs="+", help="the command that runs a command inside")
    options = parser.parse_args()
    try:
        trial(options.engine, options.inside, options.seconds)
    except TrialError as error:
        print(f"try_image: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
