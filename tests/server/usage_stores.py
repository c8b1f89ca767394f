"""Real stores of usage: a Redis and a PostgreSQL of the tests' own, which can be killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from extracot_server.ledger.postgres import PostgresStore
from extracot_server.ledger.redis import RedisStore
from extracot_server.ledger.store import Store, StoreError
from tests.conftest import IN_CI
from tests.server.live import wait_for

KINDS = ("sqlite", "redis", "postgresql")


@dataclass
class StoreServer:
    """A store's server. ``url`` is what `usage_store` takes."""

    url: str
    command: list[str]
    user: str | None
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it takes a query."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command, stdout=output, stderr=output, user=self.user, cwd=self.log.parent
            )
        wait_for(self.answers, 60.0)

    def answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self.log.read_text()
        store = self.store()
        try:
            store.values([("none", "none")])
        except StoreError:
            return False
        finally:
            store.close()
        return True

    def store(self) -> Store:
        """A connection of one's own."""
        return (RedisStore if "redis" in self.url else PostgresStore)(self.url, "the store")

    def kill(self) -> None:
        """As a machine that fails: nothing is said or written any more."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        for pid in (self.process.pid, *map(int, children.split())):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(30)


@contextmanager
def redis_server(folder: Path) -> Iterator[StoreServer]:
    """A Redis that writes each change down before it says so."""
    program = _program("redis-server")
    port = _port()
    options = {"port": port, "bind": "127.0.0.1", "dir": folder, "save": "", "appendonly": "yes"}
    command = [program]
    for name, value in (options | {"appendfsync": "always"}).items():
        command += [f"--{name}", str(value)]
    yield from _running(StoreServer(f"redis://127.0.0.1:{port}/0", command, None, folder / "log"))


@contextmanager
def postgres_server(folder: Path) -> Iterator[StoreServer]:
    """A PostgreSQL, as a user of its own: it does not run as root."""
    user = "postgres" if os.getuid() == 0 else None
    data, port = folder / "data", _port()
    if user is not None:
        for parent in (folder, *folder.parents):
            if parent.owner() != "root" or parent == Path("/tmp"):
                break
            parent.chmod(parent.stat().st_mode | 0o011)
        shutil.chown(folder, user)
    made = [_program("initdb"), "-D", str(data), "-U", "extracot", "-A", "trust", "--no-sync"]
    subprocess.run(made, check=True, capture_output=True, user=user, cwd=folder, timeout=300)
    command = [_program("postgres"), "-D", str(data), "-p", str(port), "-k", str(folder)]
    url = f"postgresql://extracot@127.0.0.1:{port}/postgres"
    yield from _running(StoreServer(url, command, user, folder / "log"))


def _running(server: StoreServer) -> Iterator[StoreServer]:
    server.start()
    try:
        yield server
    finally:
        server.kill()


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:  # Debian keeps PostgreSQL's own programs apart
        kept = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
        found = str(kept[-1]) if kept else None
    if found is None:
        (pytest.fail if IN_CI else pytest.skip)(f"{name} is not installed (.ci/run installs it)")
    return found


def _port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
