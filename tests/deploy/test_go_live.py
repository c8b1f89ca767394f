"""docs/go-live.md, walked: each command with its output, on the scripted engine behind nginx.

Docker is a script of this test's, which runs our own commands and sends signals to our processes;
front ends, nginx, TLS, keys and quotas are real.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from extracot_server.config.settings import load_settings
from extracot_server.runtime.vllm_command import read_arguments
from tests.conftest import IN_CI
from tests.deploy import compose
from tests.deploy.test_rolling_restart import NGINX, Server, free_ports, nginx_configuration
from tests.server.live import wait_for

PAGE = compose.ROOT / "docs/go-live.md"
FRONT_ENDS = 2
PATIENCE = 120.0
MARK = "-- end of a block --"
BLOCK = re.compile(r"<!-- run -->\n```bash\n(.*?)```\n\n```text\n(.*?)```\n", re.S)
# In the place of Docker: `docker run … IMAGE keys …`, and what is said to services.
DOCKER = """\
#!/usr/bin/env bash
set -euo pipefail
case "$1 ${2:-}" in
    "run --rm")
        folder=${4%%:*} inside=${4##*:} last=${@: -1}
        [ "$3 $5 ${last#"$inside"/}" = "-v extracot:cpu keys.yaml" ]
        "$PYTHON" -m extracot_server.cli "${@:6:$#-6}" "$folder/keys.yaml" ;;
    "compose up") ;;  # the test has started them
    "compose logs") cat "$RUN"/front-*.log ;;
    "compose kill")
        [ "$3 $4 $5" = "-s HUP front" ]
        told() { cat "$RUN"/front-*.log | grep -c SIGHUP: || true; }
        wanted=$(($(told) + $(cat "$RUN"/front-*.pid | wc -l)))
        kill -HUP $(cat "$RUN"/front-*.pid)
        while [ "$(told)" -lt "$wanted" ]; do read -r -t 0.05 _ <> <(:) || true; done ;;
    *) echo "docker $*: unknown to the test" >&2; exit 64 ;;
esac
"""


def settings_of_the_page() -> dict[str, str]:
    """What section 4 has in `.env`."""
    (block,) = re.findall(r"```ini\n(.*?)```", PAGE.read_text(), re.S)
    return dict(line.split("=", 1) for line in block.splitlines())


def test_the_page_s_settings_start_four_servers_and_what_is_in_front() -> None:
    given = settings_of_the_page()
    assert {name for name in given if not name.startswith("EXTRACOT_")} <= set(compose.example())
    found = compose.services(*given["COMPOSE_PROFILES"].split(","), **given)
    servers = [name for name in found if name.startswith("vllm-")]
    assert set(found) - set(servers) == {"proxy", "front", "prometheus", "alertmanager", "grafana"}
    upstreams = [f"http://{name}:8000" for name in servers]
    assert len(servers) == 4
    assert found["front"]["environment"]["EXTRACOT_UPSTREAM"].split(",") == upstreams
    assert found["front"]["deploy"]["replicas"] == given["FRONT_REPLICAS"] == "4"
    (port,) = found["proxy"]["ports"]
    assert port == "0.0.0.0:443:8080"
    assert f"./nginx/{given['PROXY_LISTEN']}.conf:" in str(found["proxy"]["volumes"])
    model, words = read_arguments(found["vllm-4"]["command"][1:])
    assert model == "Qwen/Qwen3-8B" and words[-2:] == ["--max-model-len", "16384"]
    for name, service in found.items():
        longest = int(given["EXTRACOT_GRACE_SECONDS"]) + 15
        if "observe" not in service["profiles"]:
            assert compose.seconds(service["stop_grace_period"]) >= longest, name
    nginx = (compose.ROOT / "deploy/nginx/nginx.conf").read_text()
    (waits,) = re.findall(r"worker_shutdown_timeout (\d+)s;", nginx)
    assert int(waits) >= longest, "a renewed certificate would cut replies"


def test_the_server_takes_the_page_s_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    given = settings_of_the_page()
    front = compose.services("scale", **given)["front"]["environment"]
    for name, value in {**given, **front}.items():
        if name.startswith("EXTRACOT_") and name != "EXTRACOT_REASONING_KEY_FILE":
            monkeypatch.setenv(name, value)
    settings = load_settings([])
    assert (settings.engine, len(settings.upstream)) == ("remote", 4)
    assert str(settings.keys) == "/run/keys/keys.yaml"
    assert given["EXTRACOT_REASONING_KEY_FILE"] == "/run/keys/reasoning-key"


@dataclass
class Shell:
    """One bash for the whole page, so that its variables and functions stay."""

    process: subprocess.Popen[str]

    def run(self, block: str) -> str:
        """What the block prints, its errors included."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{block}\necho; echo '{MARK}'\n")
        self.process.stdin.flush()
        lines: list[str] = []
        while (line := self.process.stdout.readline()) != f"{MARK}\n":
            assert line, f"the shell ended: {''.join(lines)}"
            lines.append(line)
        return "".join(lines).rstrip("\n")


@contextmanager
def shell(deploy: Path, run: Path, **variables: str) -> Iterator[Shell]:
    """In a copy of `deploy/`, with a `docker` that only knows what the page says."""
    docker = run / "bin/docker"
    docker.parent.mkdir(parents=True)
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    if os.getuid() != 0:  # the page's commands are root's
        (docker.parent / "chown").symlink_to("/bin/true")
    path = f"{docker.parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHON": sys.executable, "RUN": str(run)}
    process = subprocess.Popen(
        ["bash", "--norc"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=deploy,
        env=environment | variables,
    )
    try:
        yield Shell(process)
    finally:
        process.kill()
        process.communicate(timeout=30)  # closes its pipes, too


def plain(text: str) -> str:
    """Without what differs from one time to the next: secrets, numbers, and the ends of lines."""
    text = re.sub(r"sk-[\w-]+|sk-…", "sk", text)
    return "\n".join(re.sub(r"\d+(\.\d+)?", "0", line).rstrip() for line in text.splitlines())


@dataclass
class Walk:
    """The page's shell, and what is to be started when the page starts it."""

    shell: Shell
    deploy: Path
    run: Path
    stack: ExitStack
    port: int = 0

    def start(self) -> None:
        """Front ends on the scripted engine, and the shipped nginx with TLS before them."""
        given = settings_of_the_page()
        assert given["EXTRACOT_REASONING_KEY_FILE"].startswith("/run/keys/")
        own = {name: text for name, text in given.items() if name.startswith("EXTRACOT_")}
        own["EXTRACOT_REASONING_KEY_FILE"] = str(self.deploy / "secrets/server/reasoning-key")
        own["EXTRACOT_USAGE_STORE"] = str(self.run / "usage.sqlite")
        command = [sys.executable, "-m", "extracot_server.cli", "--engine", "scripted"]
        command += ["--served-model-name", "Qwen3-8B", "--card", "none", "--profile", "qwen3"]
        command += ["--keys", str(self.deploy / "secrets/server/keys.yaml")]
        ports = free_ports(FRONT_ENDS)
        for port in ports:
            log = self.run / f"front-{port}.log"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [*command, f"--port={port}"], stderr=output, env={**os.environ, **own}
                )
            self.stack.callback(ended, process, signal.SIGKILL)
            (self.run / f"front-{port}.pid").write_text(f"{process.pid}\n")
        for port in ports:
            log = self.run / f"front-{port}.log"
            wait_for(lambda path=log: "try: curl" in path.read_text(), PATIENCE)  # type: ignore[misc]
        self.proxy([Server(port) for port in ports])

    def proxy(self, servers: list[Server]) -> None:
        """nginx with the pair that the page has made."""
        assert NGINX is not None
        for name, file in (("tls_certificate", "tls.crt"), ("tls_key", "tls.key")):
            (self.run / name).symlink_to(self.deploy / "secrets" / file)
        (self.port,) = free_ports(1)
        path = nginx_configuration(self.run, self.port, servers, "tls")
        own = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")
        process = subprocess.Popen([NGINX, "-e", "stderr", "-c", str(path), "-g", own])
        self.stack.callback(ended, process, signal.SIGQUIT)
        wait_for(lambda: listens(self.port), PATIENCE)

    def block(self, text: str) -> str:
        """Run one block of the page."""
        if "docker compose up -d" in text:
            self.start()
        text = text.replace("URL=https://localhost", f"URL=https://localhost:{self.port}")
        said = self.shell.run(text.replace("sleep 1; ", "").replace("sleep 1\n", ""))
        # As in the container, and in the page's own folder.
        said = said.replace(f"{self.deploy}/secrets/server/", "/run/keys/").replace("\r", "")
        return said.replace(str(self.deploy), "/srv/extracot/deploy")


def ended(process: subprocess.Popen[bytes], number: int) -> None:
    process.send_signal(number)
    process.wait(60)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    if NGINX is None:
        (pytest.fail if IN_CI else pytest.skip)("no nginx on this machine")
    deploy, run = tmp_path / "deploy", tmp_path / "run"
    run.mkdir()
    shutil.copytree(compose.ROOT / "deploy/nginx", deploy / "nginx")
    lines = (f"{name}={value}\n" for name, value in settings_of_the_page().items())
    (deploy / ".env").write_text("".join(lines))
    with ExitStack() as stack:
        yield Walk(stack.enter_context(shell(deploy, run)), deploy, run, stack)


@pytest.mark.slow
def test_the_page_from_keys_to_the_next_day(walk: Walk) -> None:
    blocks = BLOCK.findall(PAGE.read_text())
    assert len(blocks) == PAGE.read_text().count("<!-- run -->") > 8
    for commands, printed in blocks:
        found = walk.block(commands)
        assert plain(found) == plain(printed.rstrip()), f"{commands}\n{found}"
