"""What bfloat16 is worth when serving on this CPU: the same model in both formats, in turns.

    python -m benchmarks.precision [--model smollm2] [--streams 1,8,32] [--tokens 96] [--repeats 5]

Starts two servers that differ in `--vllm dtype=` only, and sends each the same bursts of greedy
streams, first one and then the other, order changing. Prints tokens per second and, for each number
of streams, the median of the paired ratios with its quartiles. Only the ratio means much.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Server, about_this_machine, free_port, measure, percentile, table
from benchmarks.harness import request_of as streamed
from benchmarks.harness import server as started

HEAD = ("streams", "float32, tokens/s", "bfloat16, tokens/s", "ratio, median", "quartiles")
FORMATS = ("float32", "bfloat16")


def rounds(
    servers: Sequence[Server], streams: int, tokens: int, repeats: int
) -> list[tuple[float, float]]:
    """Tokens per second of both, for each of ``repeats`` bursts."""
    found = []
    for turn in range(-1, repeats):  # the first one warms up
        speeds = {}
        for one in servers if turn % 2 else reversed(servers):
            prompts = [f"Tell me of the number {turn * streams + at}." for at in range(streams)]
            fields = {"temperature": 0, "ignore_eos": True}
            load = measure(one, [streamed(one.model, text, tokens, **fields) for text in prompts])
            speeds[one.name] = load.tokens / load.wall
        if turn >= 0:
            found.append((speeds[FORMATS[0]], speeds[FORMATS[1]]))
    return found


def row(streams: int, found: Sequence[tuple[float, float]]) -> list[object]:
    """A line of the table."""
    shares = [faster / slower for slower, faster in found]
    low, middle, high = (percentile(shares, at) for at in (0.25, 0.5, 0.75))
    slower, faster = (percentile([pair[side] for pair in found], 0.5) for side in (0, 1))
    return [streams, f"{slower:.0f}", f"{faster:.0f}", f"{middle:.2f}", f"{low:.2f} to {high:.2f}"]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="smollm2", help="a folder, or a bundled one's name")
    parser.add_argument("--streams", default="1,8,32", help="how many at once, comma-separated")
    parser.add_argument("--tokens", type=int, default=96, help="of each reply")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args(argv)
    sizes = [int(size) for size in args.streams.split(",")]
    print(about_this_machine())
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        servers = []
        for name in FORMATS:
            port = free_port()
            flags = ["--model", args.model, "--served-model-name", "bench"]
            flags += ["--vllm", f"dtype={name}", "--port", str(port)]
            command = [sys.executable, "-m", "extracot_server.cli", *flags]
            log = Path(folder) / f"{name}.log"
            servers.append(stack.enter_context(started(name, command, port, "bench", log)))
        rows = [row(size, rounds(servers, size, args.tokens, args.repeats)) for size in sizes]
    print(table(HEAD, rows))


if __name__ == "__main__":
    main()
