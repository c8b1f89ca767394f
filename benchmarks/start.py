"""How long ``extracot-serve`` takes to be ready, this build and another in turns.

    python -m benchmarks.start --other PATH_TO_EXTRACOT_SERVE [--pairs 5] [--quick] [-- FLAGS]

From the start of the process until ``/ready`` says 200, with the bundled model ``small`` unless
FLAGS (of ``extracot-serve``, for both) say otherwise. Starts take turns, so that whatever else the
machine does meets both alike; CPU seconds are those of all processes up to then, and say more than
the wall where it does much else. Run each build once before, or the first start compiles Python
files. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.harness import about_this_machine, free_port, table

_TICKS = os.sysconf("SC_CLK_TCK")
_LONGEST = 900.0
_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds from the start of a server until it was ready."""

    wall: float
    cpu: float
    """Of its processes, alive or ended."""


def measure_start(command: Sequence[str], flags: Sequence[str], log: Path) -> Start:
    """Start a server, wait until it is ready, and end it."""
    port = free_port()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as said:
        began = time.monotonic()
        process = subprocess.Popen(
            [*command, "--port", str(port), *flags], stdout=said, stderr=said, env=environment
        )
        try:
            while not _is_ready(port):
                if process.poll() is not None or time.monotonic() - began > _LONGEST:
                    raise SystemExit(f"{command[0]} did not start:\n{log.read_text()[-3000:]}")
                time.sleep(_PAUSE)
            return Start(time.monotonic() - began, cpu_seconds(process.pid))
        finally:
            process.terminate()
            process.wait()


def _is_ready(port: int) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/ready", timeout=5).status_code == 200
    return False


def cpu_seconds(process: int) -> float:
    """CPU time so far of a process, its ended children, and its living descendants."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
        tasks = list(Path(f"/proc/{process}/task").glob("*/children"))
        children = [int(child) for task in tasks for child in task.read_text().split()]
    except FileNotFoundError:
        return 0.0
    own = sum(map(int, stat.rpartition(")")[2].split()[11:15])) / _TICKS
    return own + sum(map(cpu_seconds, children))


def report(ours: Sequence[Start], others: Sequence[Start]) -> str:
    """Least and median of both, and the ratio of medians."""
    rows = []
    for name in ("wall", "cpu"):
        mine = [getattr(start, name) for start in ours]
        theirs = [getattr(start, name) for start in others]
        ratio = statistics.median(mine) / statistics.median(theirs)
        rows.append([name, *_pair(mine), *_pair(theirs), f"{ratio:.2f}"])
    head = ["seconds", "ours, least", "ours, median", "other, least", "other, median", "ratio"]
    return table(head, rows)


def _pair(values: Sequence[float]) -> tuple[str, str]:
    return f"{min(values):.1f}", f"{statistics.median(values):.1f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__)
    parser.add_argument("--other", required=True, help="the other build's extracot-serve")
    parser.add_argument("--pairs", type=int, default=5, help="starts of each (default: 5)")
    parser.add_argument("--quick", action="store_true", help="one start of each")
    parser.add_argument("flags", nargs="*", help="of extracot-serve, for both")
    given = parser.parse_args(argv)
    commands = ([sys.executable, "-m", "extracot_server.cli"], [given.other])
    starts: tuple[list[Start], list[Start]] = ([], [])
    print(about_this_machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1 if given.quick else given.pairs):
            for side in (0, 1) if number % 2 else (1, 0):
                start = measure_start(commands[side], given.flags, Path(folder) / "log")
                starts[side].append(start)
                name = ("ours", "other")[side]
                print(f"{name}: {start.wall:.1f} s, CPU {start.cpu:.1f} s", flush=True)
    print(report(*starts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
