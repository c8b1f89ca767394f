"""``extracot-serve`` as a process: what it says, how it fails, and how SIGTERM ends it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import extracot
from extracot_server.cli import ServeError, bind, own_url
from extracot_server.engine.scripted.engine import scripted_card
from tests.server.live import collect, read_chunks, read_events, user, wait_for

COMMAND = [sys.executable, "-m", "extracot_server.cli"]


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    environment = {**os.environ, **variables}
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=120, env=environment
    )


def fails(code: int, *arguments: str, **variables: str) -> str:
    """The one line on standard error of a start that must fail so."""
    done = run(*arguments, **variables)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("extracot-serve: error: ")
    return last


def free_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    """A process that has said where it is ready: it, its URL, the file of what it says."""
    port = free_port()
    command = [*COMMAND, "--engine", "scripted", "--port", str(port), *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    said = []
    for raw in process.stderr:
        said.append(raw.decode())
        if "curl" in said[-1]:
            break
    try:
        assert process.poll() is None, said
        yield process, f"http://127.0.0.1:{port}", "".join(said)  # type: ignore[misc]
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_version_and_help_are_instant_and_heavy_imports_wait() -> None:
    assert run("--version").stdout.strip() == f"extracot-serve {extracot.__version__}"
    shown = run("--help")
    assert shown.returncode == 0
    for flag in ("--model", "--engine", "--host", "--port", "--config", "--default-budget"):
        assert flag in shown.stdout
    code = (
        "import sys, extracot_server.cli\n"
        "extracot_server.cli.load_settings([])\n"
        "heavy = {'fastapi', 'vllm', 'torch', 'transformers'} & set(sys.modules)\n"
        "sys.exit(bool(heavy))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_bad_settings_are_one_line_and_code_2(tmp_path: Path) -> None:
    assert "port" in fails(2, "--port", "none")
    for word, told in (
        ("--prot=8000", "unknown flag --prot; did you mean --port?"),
        ("--nonsense", "unknown flag --nonsense; see --help"),
        ("--port", "argument --port: expected one argument; see --help"),
        ("serve", "serve follows no flag; see --help"),
    ):
        done = run(word)
        assert (done.returncode, done.stderr) == (2, f"extracot-serve: error: {told}\n")
    assert "EXTRACOT_PORT" in fails(2, EXTRACOT_PROT="1")
    path = tmp_path / "bad.yaml"
    path.write_text("a: [")
    assert "bad.yaml" in fails(2, "--config", str(path))
    path.write_text('host: ""\n')  # which sockets take for every address
    assert "setting host: must be a name or an address" in fails(2, "--config", str(path))


def test_a_port_in_use_is_one_line_and_code_1() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = fails(1, "--engine", "scripted", "--port", str(port))
    assert str(port) in line and "in use" in line


@pytest.mark.parametrize("host", ["a..b", "0.0.0.0:8000", "no-such-host.invalid"])
def test_a_host_that_is_none_is_one_line_and_code_1(host: str) -> None:
    with pytest.raises(ServeError, match=re.escape(f"cannot listen on {host}, port 8000: ")):
        bind(host, 8000)


def test_an_ipv6_address_may_have_the_brackets_of_a_url() -> None:
    for host in ("::1", "[::1]"):
        with contextlib.closing(bind(host, 0)) as listener:
            assert own_url(listener).startswith("http://[::1]:")


def test_a_bad_card_is_one_line_and_code_1(tmp_path: Path) -> None:
    card = json.loads(scripted_card().model_dump_json())
    path = tmp_path / "card.json"

    def error(**changes: object) -> str:
        path.write_text(json.dumps({**card, **changes}))
        return fails(1, "--engine", "scripted", "--port", "0", "--card", str(path))

    assert "version" in error(version=2)
    assert "tokenizer_hash" in error(tokenizer_hash="sha256:" + "0" * 64)
    assert "prompt_format" in error(prompt_format=9)
    card["levels"][0]["token"] = "<COMP_21>"
    assert "<COMP_21>" in error()
    path.write_text("{")
    line = fails(1, "--engine", "scripted", "--port", "0", "--card", str(path))
    assert "card.json" in line
    beside = path.rename(tmp_path / "budget_card.json")
    line = fails(1, "--model", str(tmp_path), "--port", "0")
    assert "budget_card.json" in line, "read before the weights, which this folder has none of"
    beside.unlink()
    missing = fails(1, "--engine", "scripted", "--port", "0", "--card", str(tmp_path / "no.json"))
    assert "no.json" in missing


def test_what_it_says_can_be_tried() -> None:
    with started() as (_, url, said):
        assert f"{url}/v1" in said and "token mode" in said  # type: ignore[operator]
        found = re.search(r"-d '(\{.*\})'", str(said))
        assert found is not None
        reply = httpx.post(f"{url}/v1/chat/completions", content=found[1])
        assert reply.json()["budget"]["level"] == "0.2"


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_a_running_stream_finish_and_exits_0(name: signal.Signals) -> None:
    with started() as (process, url, _):
        body = {"messages": user("How many? " * 20), "stream": True, "n": 16, "ignore_eos": True}
        body["max_tokens"] = 400
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as response:
            lines = response.iter_lines()
            first = next(lines)
            process.send_signal(name)
            text = first + "\n" + "\n".join(lines) + "\n"
        chunks = read_chunks(text)
        for index in range(16):
            assert collect(chunks, index)["finish_reason"] == "length"
        assert process.wait(60) == 0


def test_a_stopping_server_takes_no_new_connections() -> None:
    with started() as (process, url, _):
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health")


@pytest.mark.parametrize(
    ("grace", "signals"),
    [("0.1", [signal.SIGTERM]), ("600", [signal.SIGINT, signal.SIGINT, signal.SIGTERM])],
    ids=["grace over", "second signal"],
)
def test_what_is_dropped_ends_in_an_event(grace: str, signals: list[signal.Signals]) -> None:
    # Joined events would let the replies end before the grace does.
    with started("--grace-seconds", grace, "--join-milliseconds", "0") as (process, url, _):
        body = {"messages": user("How many? " * 20), "stream": True, "n": 16, "ignore_eos": True}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as response:
            lines = response.iter_lines()
            first = next(lines)
            for number in signals:
                process.send_signal(number)
                # One signal at a time: two of a kind that are pending together are one.
                wait_for(lambda: not pending(process.pid))
            text = first + "\n" + "\n".join(lines) + "\n"
        *_, error, done = read_events(text)
        assert (json.loads(error)["error"]["code"], done) == ("server_stopping", "[DONE]")
        assert process.wait(60) == 0
        assert process.stderr is not None
        said = process.stderr.read().decode()
        assert "stopping" in said and "Traceback" not in said and "ERROR" not in said


def pending(pid: int) -> bool:
    """Whether a signal has not been delivered yet."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
    masks = re.findall(r"^(?:Sig|Shd)Pnd:\s*(\w+)$", status, re.M)
    return any(int(mask, 16) for mask in masks)
