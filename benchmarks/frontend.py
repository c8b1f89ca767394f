"""Cost of the front end: beside vLLM's own OpenAI server, beside another build, before a vLLM.

    python -m benchmarks.frontend [--streams 1,16,64,256,1000] [--tokens 96] [--rounds 7]
        [--against FOLDER] [--only vllm|remote|scripted] [--quick]

`vllm`: theirs and ours, with joining of events and without, on the same one-layer model that writes
plain text, one event per engine step. `remote`: our front end before their server, beside asking
theirs alone. `scripted`: the ceiling, with no model behind, of one and two workers; `--against` is
a checkout of another build, which takes turns with this one. All get the same requests in turns.
Prints Markdown tables: CPU is the front end's own, the engine's share of a core stands beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.harness import Server, about_this_machine, free_port, request_of, server
from benchmarks.plain_model import build_plain_model
from benchmarks.rounds import both_tables, ratio_row, rows, take_rounds

PROMPT = "What is 12 * 3 + 4? Please reason step by step."
LONG = 2400  # characters of a prompt of about 2,000 tokens of this model, 500 of the script's
MIXED = 64
ENGINE = {
    "max_model_len": 4096,
    "dtype": "float32",
    "block_size": 32,
    "kv_cache_memory_bytes": 2**29,
    "max_num_seqs": 256,
    "stream_interval": 1,
}
OURS, APART, THEIRS = "ours", "ours, no joining", "vLLM's"
HERE = Path(__file__).parents[1]
Running = contextlib.AbstractContextManager[Server]


def theirs(model: Path, folder: Path) -> Running:
    """vLLM's own server."""
    port = free_port()
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in ENGINE.items()]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += [*flags, "--enforce-eager", "--port", str(port), "--host", "127.0.0.1"]
    # As ours has it on a CPU: a long prompt in chunks beside seeded requests ends the engine.
    command.append("--no-enable-chunked-prefill")
    command += ["--served-model-name", "bench", "--uvicorn-log-level", "warning"]
    return server(THEIRS, command, port, "bench", folder / "theirs.log")


def ours(name: str, folder: Path, *flags: str, build: Path = HERE) -> Running:
    """This server, or that of another build."""
    port = free_port()
    command = [sys.executable, "-m", "extracot_server.cli", "--port", str(port), *flags]
    command += ["--log-level", "warning"]
    log = folder / f"{name.replace(' ', '-')}-{port}.log"
    return server(name, command, port, "bench", log, build)


def scripted(
    name: str, folder: Path, *, workers: int = 1, build: Path = HERE, joins: bool = True
) -> Running:
    """This server, or that of another build, on an engine that costs little."""
    flags = ["--engine", "scripted", "--served-model-name", "bench", "--workers", str(workers)]
    flags += [] if joins else ["--join-milliseconds", "0"]
    return ours(name, folder, *flags, build=build)


def requests(streams: int, tokens: int) -> list[bytes]:
    """The same for every server; the seed keeps them apart."""
    fields = {"ignore_eos": True, "temperature": 1.0}
    return [request_of("bench", PROMPT, tokens, seed=n, **fields) for n in range(streams)]


def mixed(count: int, tokens: int, budgets: Sequence[object] = (None,)) -> list[bytes]:
    """Half streams and half whole replies; every fourth prompt is long; budgets in turns."""
    long = ("First we add the number of apples. " * LONG)[:LONG] + PROMPT
    found = []
    for n in range(count):
        budget = budgets[n % len(budgets)]
        fields = {"ignore_eos": True, "temperature": 1.0, "seed": n, "stream": n % 2 == 0}
        fields |= {} if budget is None else {"budget": budget}
        found.append(request_of("bench", long if n % 4 == 3 else PROMPT, tokens, **fields))
    return found


Work = Sequence[tuple[str, Sequence[bytes], int]]
"""Loads: a name, the requests, and how often they make one round."""


def plain_work(sizes: Sequence[int], tokens: int) -> Work:
    """Streams only. A single one alone is too little to time; a thousand are short."""
    return [
        (str(n), requests(n, tokens if n < 1000 else max(8, tokens // 3)), max(1, 8 // n))
        for n in sizes
    ]


def compared(
    servers: Sequence[Server], work: Work, rounds: int, pairs: Sequence[tuple[str, str]]
) -> str:
    """The tables of these servers under these loads."""
    figures, ratios = [], []
    for name, load, repeats in work:
        found = take_rounds(servers, load, rounds, repeats=repeats)
        figures += rows(name, found)
        ratios += [ratio_row(name, found, *pair) for pair in pairs]
    return both_tables(figures, ratios)


def beside_vllm(
    model: Path, folder: Path, sizes: Sequence[int], tokens: int, rounds: int
) -> Iterator[str]:
    """Ours and theirs on the same engine."""
    flags = [word for name, value in ENGINE.items() for word in ("--vllm", f"{name}={value}")]
    flags += ["--model", str(model), "--served-model-name", "bench"]
    with (
        theirs(model, folder) as one,
        ours(APART, folder, *flags, "--join-milliseconds", "0") as apart,
        ours(OURS, folder, *flags) as shipped,
    ):
        pairs = [(APART, THEIRS), (OURS, THEIRS)]
        work = [*plain_work(sizes, tokens), ("mixed", mixed(MIXED, tokens), 1)]
        yield "On the same engine:\n\n" + compared([one, apart, shipped], work, rounds, pairs)


def before_vllm(
    model: Path, folder: Path, sizes: Sequence[int], tokens: int, rounds: int
) -> Iterator[str]:
    """Our front end before their server, and theirs alone."""
    with theirs(model, folder) as alone:
        flags = ["--engine", "remote", "--upstream", alone.url, "--served-model-name", "bench"]
        with ours(OURS, folder, *flags, "--tokenizer", str(model)) as front:
            work = plain_work([size for size in sizes if size in (16, 64, 256)], tokens)
            text = compared([alone, front], work, rounds, [(OURS, THEIRS)])
            head = "Engine `remote`, before vLLM's own server (CPU of the front end alone):\n\n"
            yield head + text


def ceilings(
    folder: Path,
    sizes: Sequence[int],
    tokens: int,
    rounds: int,
    workers_of: Sequence[int],
    against: Path | None,
) -> Iterator[str]:
    """No model behind; beside another build, if there is one."""
    for workers in workers_of:
        with contextlib.ExitStack() as running:
            names = [OURS, APART]
            every = [
                running.enter_context(scripted(OURS, folder, workers=workers)),
                running.enter_context(scripted(APART, folder, workers=workers, joins=False)),
            ]
            pairs = [(OURS, APART)]
            if against is not None:
                other = f"build {against.name}"
                built = scripted(other, folder, workers=workers, build=against)
                every.append(running.enter_context(built))
                pairs = [(name, other) for name in names]
            work = [*plain_work([size for size in sizes if size < 1000], 2 * tokens)]
            budgets = (None, "auto", {"max_reasoning_tokens": 20}, 0.2)
            work.append(("mixed", mixed(MIXED, tokens, budgets), 1))
            head = f"The scripted engine, {workers} worker{'s' * (workers > 1)}:\n\n"
            yield head + compared(every, work, rounds, pairs)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--streams", default="1,16,64,256,1000")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="1 and 16 streams of 32 tokens, once")
    parser.add_argument("--only", choices=("vllm", "remote", "scripted"), default=None)
    parser.add_argument("--against", type=Path, help="a checkout of another build")
    args = parser.parse_args(argv)
    sizes = [int(size) for size in args.streams.split(",")]
    tokens, rounds = args.tokens, args.rounds
    workers: tuple[int, ...] = (1, 2)
    if args.quick:
        sizes, tokens, rounds, workers = [1, 16], 32, 1, (1,)
    print(f"{about_this_machine()}; {tokens} tokens a reply, {rounds} rounds\n", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder, parts = Path(name), list[Iterator[str]]()
        if args.only != "scripted":
            model = build_plain_model(folder / "model")
            if args.only != "remote":
                parts.append(beside_vllm(model, folder, sizes, tokens, rounds))
            if args.only != "vllm":
                parts.append(before_vllm(model, folder, sizes, tokens, rounds))
        if args.only in (None, "scripted"):
            parts.append(ceilings(folder, sizes, tokens, rounds, workers, args.against))
        for part in parts:
            for text in part:
                print(text, flush=True)
    print(f"afterwards: {about_this_machine()}")


if __name__ == "__main__":
    main()
