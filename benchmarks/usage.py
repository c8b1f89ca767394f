"""What usage and quotas cost: the same server with `--usage-store off` and with SQLite, in turns.

    python -m benchmarks.usage [--streams 64] [--tokens 200] [--repeats 15]

Both have the same keys file, whose key has a quota of tokens and one of requests. Sends each the
same bursts of streams on the scripted engine, first one and then the other, order changing. Prints
CPU per 1,000 tokens and the times to the first event and to the end, with paired ratios and
differences: medians, and their quartiles. Other work on the machine only ever makes a burst later,
so the fastest tenth of each server's bursts say most of what the store itself adds.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import (
    Load,
    Server,
    about_this_machine,
    free_port,
    measure,
    percentile,
    table,
)
from benchmarks.harness import request_of as streamed
from benchmarks.harness import server as started

HEAD = ("", "off", "SQLite", "median of pairs", "quartiles")
KEYS = """\
keys:
  - name: bench
    key: sk-bench
    quotas:
      - {tokens: 1000000000000, per: month}
      - {requests: 1000000000, per: day}
"""


def request_of(model: str, prompt: str, tokens: int) -> bytes:
    """One stream, with the key."""
    request = streamed(model, prompt, tokens, ignore_eos=True)
    return request.replace(b"Host: bench\r\n", b"Host: bench\r\nAuthorization: Bearer sk-bench\r\n")


def rounds(
    servers: Sequence[Server], streams: int, tokens: int, repeats: int
) -> list[tuple[Load, Load]]:
    """Pairs of bursts, off and on; the first pair warms up and is left out."""
    found = []
    for turn in range(-1, repeats):
        loads = {}
        for one in servers if turn % 2 else reversed(servers):
            prompts = [f"What is {turn + 2} * {number}?" for number in range(streams)]
            loads[one.name] = measure(one, [request_of(one.model, p, tokens) for p in prompts])
        if turn >= 0:
            found.append((loads["off"], loads["on"]))
    return found


def rows(found: Sequence[tuple[Load, Load]]) -> list[list[object]]:
    """The lines of the table."""
    lines = [_row("CPU ms per 1,000 tokens", [_cpu(pair) for pair in found], ratio=True)]
    for name, kind in (("first event, p50, ms", "first"), ("whole reply, p50, ms", "whole")):
        pairs = [_p50(pair, kind) for pair in found]
        lines.append(_row(name, pairs, ratio=False))
        off, on = (percentile([pair[side] for pair in pairs], 0.1) for side in (0, 1))
        lines.append(["- fastest tenth", f"{off:.2f}", f"{on:.2f}", f"{on - off:+.2f}", ""])
    return lines


def _cpu(pair: tuple[Load, Load]) -> tuple[float, float]:
    return 1000 * pair[0].cpu_per_thousand, 1000 * pair[1].cpu_per_thousand


def _p50(pair: tuple[Load, Load], kind: str) -> tuple[float, float]:
    off, on = (1000 * percentile(getattr(load, kind), 0.5) for load in pair)
    return off, on


def _row(name: str, pairs: Sequence[tuple[float, float]], *, ratio: bool) -> list[object]:
    changes = [on / off if ratio else on - off for off, on in pairs]
    low, middle, high = (percentile(changes, share) for share in (0.25, 0.5, 0.75))
    sides = [percentile([pair[side] for pair in pairs], 0.5) for side in (0, 1)]
    form = "× {:.3f}" if ratio else "{:+.2f}"
    spread = f"{form.format(low)} to {form.format(high)}"
    return [name, *(f"{side:.2f}" for side in sides), form.format(middle), spread]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, default=64, help="how many at once")
    parser.add_argument("--tokens", type=int, default=200, help="of each reply")
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args(argv)
    print(about_this_machine())
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder, servers = Path(name), []
        (folder / "keys.yaml").write_text(KEYS)
        for label, store in (("off", "off"), ("on", str(folder / "usage.sqlite"))):
            port = free_port()
            flags = ["--engine", "scripted", "--served-model-name", "bench", "--port", str(port)]
            flags += ["--keys", str(folder / "keys.yaml"), "--usage-store", store]
            command = [sys.executable, "-m", "extracot_server.cli", *flags]
            log = folder / f"{label}.log"
            servers.append(stack.enter_context(started(label, command, port, "bench", log)))
        found = rounds(servers, args.streams, args.tokens, args.repeats)
    print(table(HEAD, rows(found)))


if __name__ == "__main__":
    main()
