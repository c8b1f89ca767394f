"""Cost of the front end, side by side with vLLM's own OpenAI server.

    python -m benchmarks.frontend [--streams 1,16,64,256] [--tokens 128] [--repeats 2] [--quick]

Both servers run at once on the same one-layer model of random weights, with the same settings and
one event per engine step, and get the same requests in turn (theirs, ours, ours, theirs, …), so
that whatever else the machine does meets both alike. Then the scripted engine: what our front end
reaches when no model is behind it. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.harness import (
    Load,
    Server,
    about_this_machine,
    free_port,
    joined,
    measure,
    milliseconds,
    percentile,
    request_of,
    server,
    table,
)

PROMPT = "What is 12 * 3 + 4? Please reason step by step."
CONTEXT = 1024
ENGINE = {
    "max_model_len": CONTEXT,
    "dtype": "float32",
    "block_size": 32,
    "kv_cache_memory_bytes": 2**29,
    "max_num_seqs": 256,
    "stream_interval": 1,
}


def theirs(model: Path, folder: Path) -> contextlib.AbstractContextManager[Server]:
    """vLLM's own server."""
    port = free_port()
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in ENGINE.items()]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += [*flags, "--enforce-eager", "--port", str(port), "--host", "127.0.0.1"]
    command += ["--served-model-name", "bench", "--uvicorn-log-level", "warning"]
    return server("vLLM's", command, port, "bench", folder / "theirs.log")


def ours(model: Path, folder: Path) -> contextlib.AbstractContextManager[Server]:
    """This server on the same engine."""
    port = free_port()
    flags = [word for name, value in ENGINE.items() for word in ("--vllm", f"{name}={value}")]
    command = [sys.executable, "-m", "extracot_server.cli", "--model", str(model), *flags]
    command += ["--port", str(port), "--served-model-name", "bench", "--log-level", "warning"]
    return server("ours", command, port, "bench", folder / "ours.log")


def scripted(folder: Path) -> contextlib.AbstractContextManager[Server]:
    """This server on an engine that costs next to nothing."""
    port = free_port()
    command = [sys.executable, "-m", "extracot_server.cli", "--engine", "scripted"]
    command += ["--port", str(port), "--served-model-name", "bench", "--log-level", "warning"]
    return server("ours, scripted", command, port, "bench", folder / "scripted.log")


def requests(streams: int, tokens: int) -> list[bytes]:
    """The same for every server; the seed keeps them apart."""
    fields = {"ignore_eos": True, "temperature": 1.0}
    return [request_of("bench", PROMPT, tokens, seed=n, **fields) for n in range(streams)]


def compare(
    servers: Sequence[Server], sizes: Sequence[int], tokens: int, repeats: int
) -> dict[tuple[str, int], Load]:
    """Every server at every number of streams, in turns."""
    found: dict[tuple[str, int], list[Load]] = {}
    for size in sizes:
        work = requests(size, tokens)
        for one in servers:
            measure(one, work[: min(size, 16)])  # warm: caches, the allocator, lazy imports
        for number in range(repeats):
            for one in servers if number % 2 == 0 else reversed(servers):
                rounds = max(1, 8 // size)  # a single stream alone is too little to time
                found.setdefault((one.name, size), []).extend(
                    measure(one, work) for _ in range(rounds)
                )
    return {key: joined(loads) for key, loads in found.items()}


HEAD = ("streams", "server", "CPU s / 1,000 tokens", "tokens/s", "requests/s", "TTFT ms p50 / p99")
HEAD += ("between events ms p50 / p99", "end to end ms p50 / p99", "KiB a stream", "events / token")


def row(name: str, load: Load) -> list[object]:
    """One line of the table."""
    return [
        load.streams,
        name,
        f"{load.cpu_per_thousand:.4f}",
        f"{load.tokens / load.wall:.0f}",
        f"{len(load.whole) / load.wall:.2f}",
        milliseconds(load.first),
        milliseconds(load.gaps),
        milliseconds(load.whole),
        f"{load.kib_per_stream:.0f}",
        f"{load.events / load.tokens:.2f}",
    ]


def ratios(found: dict[tuple[str, int], Load], sizes: Sequence[int]) -> str:
    """Ours over theirs; times as differences."""
    rows = []
    for size in sizes:
        a, b = found["ours", size], found["vLLM's", size]
        speed = (a.tokens / a.wall) / (b.tokens / b.wall)
        added = [
            1000 * (percentile(a.first, share) - percentile(b.first, share))
            for share in (0.5, 0.99)
        ]
        rows.append(
            [
                size,
                f"{a.cpu_per_thousand / b.cpu_per_thousand:.2f}",
                f"{speed:.2f}",
                f"{added[0]:+.1f} / {added[1]:+.1f}",
            ]
        )
    head = ("streams", "CPU, ours / theirs", "tokens/s, ours / theirs", "TTFT added ms p50 / p99")
    return table(head, rows)


@contextlib.contextmanager
def both(folder: Path) -> Iterator[list[Server]]:
    """Theirs and ours, ready."""
    from tests.fixtures.tiny_model import build_tiny_model

    model = build_tiny_model(folder / "model", layers=1)
    with theirs(model, folder) as one, ours(model, folder) as other:
        yield [one, other]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--streams", default="1,16,64,256")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="1 and 16 streams of 32 tokens, once")
    parser.add_argument("--scripted-only", action="store_true", help="no vLLM: the ceiling only")
    args = parser.parse_args(argv)
    sizes = [int(size) for size in args.streams.split(",")]
    tokens, repeats = args.tokens, args.repeats
    if args.quick:
        sizes, tokens, repeats = [1, 16], 32, 1
    print(f"{about_this_machine()}; {tokens} tokens a stream, {repeats} rounds\n", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not args.scripted_only:
            with both(folder) as servers:
                found = compare(servers, sizes, tokens, repeats)
            rows = [row(one.name, found[one.name, size]) for size in sizes for one in servers]
            print(table(HEAD, rows), ratios(found, sizes), sep="\n\n", end="\n\n", flush=True)
        with scripted(folder) as alone:
            found = compare([alone], sizes, tokens, repeats)
        print(table(HEAD, [row(alone.name, found[alone.name, size]) for size in sizes]))


if __name__ == "__main__":
    main()
