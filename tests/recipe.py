"""The tiny recipe, for tests: from its start, or from the checkpoint kept of an earlier run.

The whole recipe takes a quarter of an hour, mostly on one core. Its checkpoint is committed with
the fingerprint of all that it is made of (tests/tiny_fingerprint.py): where nothing of that has
changed, the run begins with publishing and measuring that checkpoint, else with the first problem.
``TINY_RUN=folder`` keeps the run there, trained anew, and goes on with what is done in it.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests import tiny_fingerprint

ROOT = Path(__file__).parents[1]
NICE = 10


def free_port() -> int:
    """A port that is free now and that no system gives away by itself meanwhile. Any of them: two
    recipes that run beside each other serve only much later."""
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port below those that the system gives away")


@contextlib.contextmanager
def finished_run() -> Iterator[Path]:
    """The folder of a finished run, there until the block ends; an :class:`AssertionError` with its
    last words if it failed."""
    kept = os.environ.get("TINY_RUN")
    folder = Path(kept or tempfile.mkdtemp(prefix="tiny-run-")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _run(folder, {} if kept else _beginning(folder))
        yield folder
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


def _beginning(folder: Path) -> dict[str, str]:
    """Lay out what is kept of an earlier run if it is what the code would make; where to go on."""
    changed = tiny_fingerprint.differences()
    if changed:
        print("the tiny recipe is trained anew, because of:", *changed, sep="\n  ")
        return {}
    tiny_fingerprint.restore(folder)
    return {"START": tiny_fingerprint.FIRST_STEP}


def _run(folder: Path, more: dict[str, str]) -> None:
    """``training/recipes/tiny.sh`` to its end, on one thread (which makes its figures the same on
    every run of a machine) and with little claim on the processor."""
    log, scripts = folder / "recipe.log", Path(sys.executable).parent
    environment = os.environ | {
        "OUT": str(folder),
        "PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
        "TRAIN_COMMAND": str(scripts / "extracot-train"),
        "SERVE_COMMAND": str(scripts / "extracot-serve"),
        **more,
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["nice", "-n", str(NICE), "bash", str(ROOT / "training" / "recipes" / "tiny.sh")],
            env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    # Linux weighs sessions, not processes, where it groups them: say it of the session, too.
    with contextlib.suppress(OSError):
        Path(f"/proc/{process.pid}/autogroup").write_text(str(NICE))
    try:
        code = process.wait()
    finally:  # also where the wait is cut short: nothing that it started outlives it
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    said = log.read_text(errors="replace")
    print(said)
    assert code == 0, said[-3000:]
