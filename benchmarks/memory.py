"""Memory of ``extracot-serve``, this build and another in turns: idle, and while streams run.

    python -m benchmarks.memory [--other PATH_TO_EXTRACOT_SERVE] [--streams 64] [--tokens 96]
        [--pairs 1] [--quick] [-- FLAGS]

Proportional set size of all processes of a server, from ``/proc/PID/smaps_rollup``: a page that
three processes share counts a third in each, so the sum is what the server takes. Idle is after the
first reply, busy the most that was seen while the streams ran. FLAGS (of ``extracot-serve``, for
both) as in ``benchmarks.start``. Prints Markdown tables: each process, then the ratio.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import (
    Server,
    about_this_machine,
    free_port,
    measure,
    request_of,
    server,
    table,
)
from benchmarks.processes import family

PROMPT = "What is 12 * 3 + 4? Please reason step by step."
HEAD = ("build", "when", "process", "resident MiB", "proportional MiB", "of it anonymous")
HEAD += ("files", "shared memory")
_FIELD = re.compile(r"^(Rss|Pss|Pss_Anon|Pss_File|Pss_Shmem):\s+(\d+) kB$", re.MULTILINE)
_LOOK = 0.25


@dataclass(frozen=True, slots=True)
class Process:
    """What a process holds, in KiB."""

    name: str
    resident: int
    proportional: int
    anonymous: int
    files: int
    shared: int


def processes_of(number: int) -> list[Process]:
    """A process and its descendants, those that can be read."""
    found = []
    for each, _ in family(number):
        try:
            rollup = Path(f"/proc/{each}/smaps_rollup").read_text(encoding="ascii")
            said = Path(f"/proc/{each}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):  # it has ended in between
            continue
        sizes = {name: int(value) for name, value in _FIELD.findall(rollup)}
        if sizes.get("Pss"):
            names = ("Rss", "Pss", "Pss_Anon", "Pss_File", "Pss_Shmem")
            found.append(Process(_short(said), *(sizes.get(name, 0) for name in names)))
    return found


def _short(command: str) -> str:
    known = {"forkserver": "fork server", "VLLM::EngineCore": "engine", "VLLM::Worker": "worker"}
    known |= {"extracot_server.cli": "server", "extracot-serve": "server"}
    return next((name for part, name in known.items() if part in command), "helper")


def total(found: Sequence[Process]) -> float:
    """Proportional set size of all, in MiB."""
    return sum(process.proportional for process in found) / 1024


class _Watch(threading.Thread):
    """Keeps the look at a server with the largest sum."""

    def __init__(self, number: int) -> None:
        super().__init__(daemon=True)
        self.most: list[Process] = []
        self._number = number
        self._over = threading.Event()

    def run(self) -> None:
        """Look once, and until told that it is over."""
        over = False
        while not over:
            now = processes_of(self._number)
            if total(now) > total(self.most):
                self.most = now
            over = self._over.wait(_LOOK)

    def end(self) -> list[Process]:
        """Stop, and the largest."""
        self._over.set()
        self.join()
        return self.most


def look(one: Server, streams: int, tokens: int) -> tuple[list[Process], list[Process]]:
    """Idle, and at its most while ``streams`` run."""
    fields = {"ignore_eos": True, "temperature": 1.0}
    requests = [request_of(one.model, PROMPT, tokens, seed=n, **fields) for n in range(streams)]
    measure(one, requests[:1])
    idle = processes_of(one.process.pid)
    watch = _Watch(one.process.pid)
    watch.start()
    measure(one, requests)
    return idle, watch.end()


def rows_of(build: str, when: str, found: Sequence[Process]) -> list[list[object]]:
    """Lines for each process, and for all."""
    rows: list[list[object]] = []
    for process in found:
        sizes = (process.resident, process.proportional, process.anonymous)
        sizes += (process.files, process.shared)
        rows.append([build, when, process.name, *(f"{size / 1024:.0f}" for size in sizes)])
    return [*rows, [build, when, "all", "", f"{total(found):.0f}", "", "", ""]]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--other", help="another build's extracot-serve")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--pairs", type=int, default=1, help="starts of each (default: 1)")
    parser.add_argument("--quick", action="store_true", help="4 streams of 16 tokens, once")
    parser.add_argument("flags", nargs="*", help="of extracot-serve, for both")
    given = parser.parse_args(argv)
    streams, tokens, pairs = given.streams, given.tokens, given.pairs
    if given.quick:
        streams, tokens, pairs = 4, 16, 1
    builds = {"ours": [sys.executable, "-m", "extracot_server.cli"]}
    if given.other:
        builds["other"] = [given.other]
    sums: dict[tuple[str, str], list[float]] = {}
    rows: list[list[object]] = []
    print(about_this_machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(pairs):
            for name in builds if number % 2 else reversed(builds):
                port = free_port()
                flags = ["--port", str(port), "--served-model-name", "bench", *given.flags]
                log = Path(folder) / "log"
                with server(name, [*builds[name], *flags], port, "bench", log) as one:
                    found = dict(zip(("idle", "busy"), look(one, streams, tokens), strict=True))
                for when, processes in found.items():
                    sums.setdefault((name, when), []).append(total(processes))
                    rows += rows_of(name, when, processes) if number == 0 else []
    print(table(HEAD, rows))
    if given.other:
        print("\n" + ratios(sums))


def ratios(sums: dict[tuple[str, str], list[float]]) -> str:
    """Medians of both builds' sums."""
    rows = []
    for when in ("idle", "busy"):
        ours, other = (statistics.median(sums[name, when]) for name in ("ours", "other"))
        rows.append([when, f"{ours:.0f}", f"{other:.0f}", f"{ours / other:.2f}"])
    return table(("when", "ours, MiB", "other, MiB", "ratio"), rows)


if __name__ == "__main__":
    main()
