"""What usage and quotas cost: the same server with `--usage-store off` and with SQLite, in turns.

    python -m benchmarks.usage [--streams 64] [--tokens 200] [--repeats 15] [--interval 20]

Both have the same keys file, whose key has a quota of tokens and one of requests. Each gets the
same requests for streams on the scripted engine, first one and then the other, order changing, in
two loads:

- *burst*: all streams begin in one instant. The first event of most of them waits for the beginning
  of all, so a difference there is that of about as many beginnings as there are streams, and of one
  wait for the store.
- *steady*: as many are kept in flight, each new one beginning when one ends (the first ones are of
  all lengths, and their times are left out). A difference is what one request waits for its own
  claim, beside all that the others do.

The engine makes tokens as fast as the process can take them, so the event loop is never idle in
either, and a claim waits for what the loop does meanwhile. `--interval 20` has it make one of each
stream every 20 ms, as a model would, and `--engine vllm` measures the bundled model on vLLM, its
engine's CPU included: then the steady load alone is measured.

Prints CPU per 1,000 tokens and the times to the first event and to the end, with paired ratios and
differences: medians, and their quartiles. Other work on the machine only ever makes a reply later,
so the fastest tenth of each server's loads say most of what the store itself adds.
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

STEADY_TURNS = 3
"""Replies that follow each other, after the first ones of a steady load."""
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
    servers: Sequence[Server], streams: int, tokens: int, repeats: int, kinds: Sequence[str]
) -> dict[str, list[tuple[Load, Load]]]:
    """Pairs of loads, off and on, by kind; the first pair of each warms up and is left out."""
    found: dict[str, list[tuple[Load, Load]]] = {kind: [] for kind in kinds}
    for turn in range(-1, repeats):
        for kind, pairs in found.items():
            loads = {}
            for one in servers if turn % 2 else reversed(servers):
                loads[one.name] = _load(one, kind, streams, tokens, turn + 2)
            if turn >= 0:
                pairs.append((loads["off"], loads["on"]))
    return found


def _load(server: Server, kind: str, streams: int, tokens: int, turn: int) -> Load:
    steady = kind == "steady"
    lengths = [max(1, tokens * (n + 1) // streams) for n in range(streams)] if steady else []
    lengths += [tokens] * streams * (STEADY_TURNS if steady else 1)
    requests = [
        request_of(server.model, f"What is {turn} * {number}?", length)
        for number, length in enumerate(lengths)
    ]
    return measure(server, requests, streams if steady else None)


def rows(load: str, found: Sequence[tuple[Load, Load]]) -> list[list[object]]:
    """The lines of the table for one kind of load."""
    lines = [_row(f"{load}: CPU ms per 1,000 tokens", [_cpu(pair) for pair in found], ratio=True)]
    for name, kind in (("first event, p50, ms", "first"), ("whole reply, p50, ms", "whole")):
        pairs = [_p50(pair, kind) for pair in found]
        lines.append(_row(f"{load}: {name}", pairs, ratio=False))
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
    parser.add_argument("--streams", type=int, default=64, help="how many at once, or in flight")
    parser.add_argument("--tokens", type=int, default=200, help="of each reply")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--interval", type=float, default=0, help="ms between a stream's tokens")
    parser.add_argument("--engine", choices=("scripted", "vllm"), default="scripted")
    args = parser.parse_args(argv)
    paced = args.engine == "scripted"
    kinds = ["burst", "steady"] if paced and not args.interval else ["steady"]
    serve = ["benchmarks.paced", str(args.interval)] if paced else ["extracot_server.cli"]
    print(about_this_machine())
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder, servers = Path(name), []
        (folder / "keys.yaml").write_text(KEYS)
        for label, store in (("off", "off"), ("on", str(folder / "usage.sqlite"))):
            port = free_port()
            flags = ["--engine", args.engine, "--served-model-name", "bench", "--port", str(port)]
            flags += ["--keys", str(folder / "keys.yaml"), "--usage-store", store]
            command = [sys.executable, "-m", *serve, *flags]
            log = folder / f"{label}.log"
            servers.append(stack.enter_context(started(label, command, port, "bench", log)))
        found = rounds(servers, args.streams, args.tokens, args.repeats, kinds)
    print(table(HEAD, [row for load, pairs in found.items() for row in rows(load, pairs)]))


if __name__ == "__main__":
    main()
