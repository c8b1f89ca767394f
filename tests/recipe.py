"""The tiny recipe, run beside the other tests: it takes a quarter of an hour, mostly on one core.

It starts when the first test does, with little claim on the processor and one thread, which also
makes its figures the same on every run of a machine; its tests come last. ``TINY_RUN=folder`` keeps
the run there, and goes on with what is done in it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
FIXTURE = "tiny_run"
NICE = 10


def free_port() -> int:
    """A port that is free now and that no system gives away by itself meanwhile."""
    for port in range(20_000, 30_000, 97):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port below those that the system gives away")


class BackgroundRun:
    """``training/recipes/tiny.sh`` as a process of its own session."""

    def __init__(self) -> None:
        kept = os.environ.get("TINY_RUN")
        self._kept = kept is not None
        self.folder = Path(kept or tempfile.mkdtemp(prefix="tiny-run-")).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._log = self.folder / "recipe.log"
        scripts = Path(sys.executable).parent
        environment = os.environ | {
            "OUT": str(self.folder),
            "PORT": str(free_port()),
            "OMP_NUM_THREADS": "1",
            "TRAIN_COMMAND": str(scripts / "extracot-train"),
            "SERVE_COMMAND": str(scripts / "extracot-serve"),
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["nice", "-n", str(NICE), "bash", str(ROOT / "training" / "recipes" / "tiny.sh")],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        # Linux weighs sessions, not processes, where it groups them: say it of the session, too.
        with contextlib.suppress(OSError):
            Path(f"/proc/{self._process.pid}/autogroup").write_text(str(NICE))

    def wait(self) -> Path:
        """The folder of the finished run; an :class:`AssertionError` with its last words if it
        failed."""
        code = self._process.wait()
        said = self._log.read_text(errors="replace")
        print(said)
        assert code == 0, said[-3000:]
        return self.folder

    def end(self) -> None:
        """Stop it if it still runs, with all it started; what nobody asked to keep is removed."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if not self._kept:
            shutil.rmtree(self.folder, ignore_errors=True)
