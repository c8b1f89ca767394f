"""Makes each client's environment from its lock, and runs scripts in it; also those of servers.

``requirements/clients-NAME.txt`` is for Python, ``requirements/clients-NAME/`` (package.json and
its lock) for npm; ``servers-NAME.txt`` is a server's. Environments are kept in
``.venv-clients/NAME`` and made anew when the lock or the Python changes. One that cannot be made
fails in CI and skips elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "requirements"
ENVIRONMENTS = ROOT / ".venv-clients"
TALKS = Path(__file__).with_name("talks")
SECONDS_OF_A_TALK = 120
STAMP = "made-from"


class NotMade(Exception):
    """An environment could not be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A client's environment. ``runner`` runs a script that lies in ``folder``."""

    folder: Path
    runner: tuple[str, ...]
    variables: dict[str, str] = field(default_factory=dict)

    @contextlib.contextmanager
    def talking(self, script: str) -> Iterator[Talk]:
        """``talks/script``, which plays a session for each line of words; started on demand."""
        # Next to node_modules, where node looks for packages.
        copy = self.folder / script
        shutil.copyfile(TALKS / script, copy)
        talk = Talk((*self.runner, str(copy)), self.folder, self.surroundings())
        try:
            yield talk
        finally:
            talk.close()

    def surroundings(self) -> dict[str, str]:
        """The variables of what runs in it; nothing of the developer's own is set."""
        kept = {n: os.environ[n] for n in ("PATH", "LANG", "TMPDIR") if n in os.environ}
        return {**kept, "HOME": str(self.folder), **self.variables}

    @contextlib.contextmanager
    def running(self, *command: str) -> Iterator[Callable[[], str | None]]:
        """A program that runs until the block ends; gives what says why it has ended, if it has."""
        said = self.folder / "output.txt"
        with said.open("w") as out:
            surroundings = self.surroundings()
            process = subprocess.Popen(
                command, cwd=self.folder, env=surroundings, stdout=out, stderr=out
            )
        try:
            yield lambda: None if process.poll() is None else said.read_text()[-3000:]
        finally:
            process.terminate()
            process.wait()

    def run(self, *command: str, cwd: Path | None = None, **variables: str) -> str:
        """Standard output of a command that must succeed."""
        done = subprocess.run(
            command,
            cwd=cwd or self.folder,
            env={**self.surroundings(), **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS_OF_A_TALK,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-1000:]}\n{done.stderr[-2000:]}"
        return done.stdout


class Talk:
    """One process of a client for several sessions, because its imports take longest.

    Called with the words of a session it gives what the script saw. A script that fails ends; the
    next session starts another.
    """

    def __init__(self, command: tuple[str, ...], folder: Path, variables: dict[str, str]) -> None:
        self._command, self._folder, self._variables = command, folder, variables
        self._process: subprocess.Popen[str] | None = None
        self._errors = folder / "errors.txt"

    def __call__(self, **words: Any) -> Any:
        """Play one session; an ``AssertionError`` with the script's own words if it fails."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        timer = threading.Timer(SECONDS_OF_A_TALK, process.kill)
        timer.start()
        try:
            process.stdin.write(json.dumps(words) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            self.close()
            raise AssertionError(f"the client failed:\n{self._errors.read_text()[-3000:]}")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(BrokenPipeError):
                self._process.communicate()
            self._process = None

    def _start(self) -> subprocess.Popen[str]:
        with self._errors.open("w") as errors:
            return subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )


def environment(name: str, kind: Literal["clients", "servers"] = "clients") -> Environment:
    """The environment of ``requirements/KIND-NAME``, made if it is not there yet."""
    try:
        if (LOCKS / f"{kind}-{name}").is_dir():
            return _npm(name)
        return _python(name, LOCKS / f"{kind}-{name}.txt")
    except NotMade as reason:
        message = f"the environment of {name} cannot be made: {reason}"
        if os.environ.get("CI", "").lower() not in ("", "0", "false"):
            pytest.fail(message)
        pytest.skip(message)


def _python(name: str, lock: Path) -> Environment:
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    stamp = _digest(lock.read_bytes(), sys.version.encode())
    if _stale(folder, stamp):
        uv = _uv()
        _must([*uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
        _must([*uv, "pip", "install", "--quiet", "--no-deps", "--python", str(python), "-r", lock])
        (folder / STAMP).write_text(stamp)
    # -P: a script's own folder must not hide the client that is named like it.
    # LiteLLM would ask the internet for prices, and wait for it.
    variables = {"NO_PROXY": "127.0.0.1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return Environment(folder, (str(python), "-P"), variables)


def _npm(name: str) -> Environment:
    lock, folder = LOCKS / f"clients-{name}", ENVIRONMENTS / name
    files = [lock / "package.json", lock / "package-lock.json"]
    stamp = _digest(*(file.read_bytes() for file in files))
    if _stale(folder, stamp):
        npm = shutil.which("npm")
        if npm is None or shutil.which("node") is None:
            raise NotMade("node and npm are not here")
        folder.mkdir(parents=True)
        for file in files:
            shutil.copy(file, folder)
        _must([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], cwd=folder)
        (folder / STAMP).write_text(stamp)
    return Environment(folder, ("node",), {"NO_PROXY": "127.0.0.1"})


def _uv() -> list[str]:
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    found = shutil.which("uv")
    if found is None:
        raise NotMade("uv is not here (make test-clients installs it)")
    return [found]


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _stale(folder: Path, stamp: str) -> bool:
    """Whether it is to be made; what a run that was cut short has left is then removed."""
    made = folder / STAMP
    if made.exists() and made.read_text() == stamp:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    return True


def _must(command: list[Any], cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotMade((done.stderr or done.stdout).strip()[-2000:])
