"""Tokens per second of real models on this CPU, this build and another in turns.

    python -m benchmarks.serving [--other PATH_TO_EXTRACOT_SERVE] [--model small] [--streams 32]
        [--tokens 96] [--repeats 5] [--quick] [--try "--vllm block_size=64"]
        [--env VLLM_CPU_NUM_OF_RESERVED_CPU=1] [--beside 1] [-- FLAGS]

Starts two servers with the same FLAGS; ours has those of ``--try`` and the variables of ``--env``
besides, and without ``--other`` both are this build, so that one setting can be compared. Both get
the same bursts of greedy streams, one after the other, order changing. Prints tokens per second,
the time to the first token and the gap between events, CPU seconds of all processes for 1,000
tokens, and the median of the paired ratios with its quartiles: on a busy machine the ratios mean
something, and the CPU seconds more than the wall. ``--beside`` makes it busy: so many other
processes compute meanwhile. How long a start takes is told by ``benchmarks.start``.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import (
    Server,
    about_this_machine,
    free_port,
    measure,
    percentile,
    request_of,
    server,
    table,
)
from benchmarks.start import cpu_seconds

NAMES = ("ours", "other")
BUSY = "while True: pass"
FIGURES = (
    ("tokens/s", "speed"),
    ("first token ms p50", "first"),
    ("first token ms p99", "first_late"),
    ("gap between events ms p99", "gap"),
    ("CPU s / 1,000 tokens", "cpu"),
)
HEAD = ("streams", "figure", "ours", "other", "ratio, median", "quartiles")


@dataclass(frozen=True, slots=True)
class Burst:
    """What one burst of streams took on one server."""

    speed: float
    """Tokens per second."""
    first: float
    """Milliseconds to the first token: the median stream's."""
    first_late: float
    """The 99th percentile of them."""
    gap: float
    """The 99th percentile of the milliseconds between two events."""
    cpu: float
    """Seconds of all its processes, for 1,000 tokens."""


def cpu_of(one: Server) -> float:
    """CPU seconds so far, of all processes of a server."""
    return cpu_seconds(one.process.pid)


def burst(one: Server, streams: int, tokens: int, turn: int) -> Burst:
    """Send a burst; each has prompts of its own, so that no cache has seen them."""
    fields = {"temperature": 0, "ignore_eos": True}
    prompts = [f"Tell me of the number {turn * streams + at}." for at in range(streams)]
    requests = [request_of(one.model, text, tokens, **fields) for text in prompts]
    before = cpu_of(one)
    load = measure(one, requests)
    spent = cpu_of(one) - before
    first, late = (1000 * percentile(load.first, at) for at in (0.5, 0.99))
    gap = 1000 * percentile(load.gaps, 0.99)
    return Burst(load.tokens / load.wall, first, late, gap, 1000 * spent / load.tokens)


def rounds(
    servers: Sequence[Server], streams: int, tokens: int, repeats: int
) -> list[dict[str, Burst]]:
    """Pairs of bursts; one before them warms up."""
    found = []
    for turn in range(repeats + 1):
        order = servers if turn % 2 else list(reversed(servers))
        pair = {one.name: burst(one, streams, tokens, turn) for one in order}
        found += [pair] if turn else []
    return found


def rows_of(streams: int, found: Sequence[dict[str, Burst]]) -> list[list[object]]:
    """Lines of the table."""
    rows: list[list[object]] = []
    for name, figure in FIGURES:
        sides = [[getattr(pair[side], figure) for pair in found] for side in NAMES]
        said = [f"{percentile(side, 0.5):.4g}" for side in sides]
        compared = ["-", "-"]
        if all(sides[1]):  # a stream of one event has no gap
            shares = [ours / other for ours, other in zip(*sides, strict=True)]
            low, middle, high = (percentile(shares, at) for at in (0.25, 0.5, 0.75))
            compared = [f"{middle:.2f}", f"{low:.2f} to {high:.2f}"]
        rows.append([streams, name, *said, *compared])
    return rows


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many other processes that compute."""
    running = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--other", help="another build's extracot-serve (default: this build)")
    parser.add_argument("--model", default="small", help="a folder, or a bundled one's name")
    parser.add_argument("--streams", default="32", help="how many at once, comma-separated")
    parser.add_argument("--tokens", type=int, default=96, help="of each reply")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="4 streams of 16 tokens, once")
    parser.add_argument("--try", dest="tried", default="", help="flags of our server only")
    parser.add_argument("--env", default="", help="variables of our server only, NAME=VALUE")
    parser.add_argument("--beside", type=int, default=0, help="other processes that compute")
    parser.add_argument("flags", nargs="*", help="of extracot-serve, for both")
    args = parser.parse_args(argv)
    if args.quick:
        args.streams, args.tokens, args.repeats = "4", 16, 1
    own = [sys.executable, "-m", "extracot_server.cli"]
    ours = ["env", *shlex.split(args.env), *own, *shlex.split(args.tried)]
    commands = (ours, [args.other] if args.other else own)
    print(about_this_machine())
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        servers = []
        for name, command in zip(NAMES, commands, strict=True):
            port = free_port()
            flags = ["--model", args.model, "--served-model-name", "bench", "--port", str(port)]
            log = Path(folder) / f"{name}.log"
            run = server(name, [*command, *flags, *args.flags], port, "bench", log)
            servers.append(stack.enter_context(run))
        stack.enter_context(busy(args.beside))
        rows = [
            row
            for size in map(int, args.streams.split(","))
            for row in rows_of(size, rounds(servers, size, args.tokens, args.repeats))
        ]
    print(table(HEAD, rows))


if __name__ == "__main__":
    main()
