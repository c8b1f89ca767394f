"""What a cap that is hit costs the engine: the request that answers reads prompt and reasoning.

    python -m benchmarks.caps [--caps 512,8192] [--remote] [--quick]

Serves a tiny model of random weights, which reasons until it is stopped, with prefix caching as
shipped; with ``--remote`` the engine is vLLM's own server. Each reply is capped, then answers for
some tokens. Everything comes from vLLM's own counters: tokens of the second prompt, how many of
them it had in its cache, how many it computed, and engine steps beyond one for each token that the
reply kept. The pause is the time between the last token of reasoning and the first one of the
answer, beside the median time between tokens. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from tokenizers import Tokenizer

from benchmarks.harness import about_this_machine, free_port, percentile, server, table

ANSWER = 256  # tokens that a server keeps for the answer
ROOM = 64  # more than tags and what is written around them take
CONTEXT = 9216
QUESTION = "What is 12 * 3 + 4? Please reason step by step, and tell me all that you have seen."
HEAD = ("cap", "second prompt", "in the cache", "computed", "steps beyond the tokens kept")
HEAD += ("pause ms", "between tokens ms")
_COUNTERS = {
    "queries": "vllm:prefix_cache_queries_total",
    "hits": "vllm:prefix_cache_hits_total",
    "steps": "vllm:iteration_tokens_total_count",
}


@dataclass(frozen=True, slots=True)
class Place:
    """A server, where its engine's counters are, and the token that would end a reasoning early."""

    url: str
    metrics: str
    end: int


def counters(place: Place) -> dict[str, int]:
    """vLLM's counters, added up."""
    families = text_string_to_metric_families(httpx.get(f"{place.metrics}/metrics").text)
    found = dict.fromkeys(_COUNTERS, 0)
    for sample in (sample for family in families for sample in family.samples):
        for name, full in _COUNTERS.items():
            if sample.name == full:
                found[name] += int(sample.value)
    return found


def reply(place: Place, text: str, cap: int) -> tuple[dict[str, Any], list[tuple[str, float]]]:
    """A streamed reply: its last chunk's report and usage, and when each part of it came."""
    body = {
        "model": "bench",
        "messages": [{"role": "user", "content": text}],
        "budget": {"ratio": 1, "max_reasoning_tokens": cap, "enforce": "hard"},
        "max_tokens": cap + ANSWER + ROOM,
        "ignore_eos": True,
        "logit_bias": {str(place.end): -100},
        "temperature": 1.0,
        "seed": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    came: list[tuple[str, float]] = []
    last: dict[str, Any] = {}
    url = f"{place.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, timeout=900) as response:
        if response.status_code != 200:
            raise SystemExit(f"refused: {response.read().decode()[:500]}")
        for line in response.iter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            last |= {name: chunk[name] for name in ("usage", "budget") if chunk.get(name)}
            for choice in chunk.get("choices", ()):
                part = next((p for p in ("reasoning", "content") if choice["delta"].get(p)), None)
                came += [(part, perf_counter())] if part else []
    return last, came


def row(place: Place, cap: int, number: int) -> list[object]:
    """A line of the table: one capped reply of a prompt that no cache has seen."""
    text = f"{number}. {QUESTION}"
    before = counters(place)
    last, came = reply(place, text, cap)
    after = counters(place)
    report = last["budget"]
    if not report["cap_hit"] or report["reasoning_tokens"] < cap - 3:
        raise SystemExit(f"the cap of {cap} was not hit: {report}")
    spent = {name: after[name] - before[name] for name in before}
    generated = last["usage"]["completion_tokens"]
    first = last["usage"]["prompt_tokens"]
    times = [at for _, at in came]
    gaps = [later - at for at, later in itertools.pairwise(times)]
    turn = next((at for at, (part, _) in enumerate(came) if part == "content"), 0)
    pause = f"{1000 * gaps[turn - 1]:.1f}" if turn else "no answer"
    second = spent["queries"] - first
    computed = spent["queries"] - spent["hits"] - first
    return [
        *(cap, second, spent["hits"], computed, spent["steps"] - generated),
        *(pause, f"{1000 * percentile(gaps, 0.5):.1f}"),
    ]


@contextlib.contextmanager
def served(folder: Path, remote: bool) -> Iterator[Place]:
    """A server of the tiny model, its engine inside it or vLLM's own server."""
    from tests.fixtures.tiny_model import build_tiny_model

    model = build_tiny_model(folder / "model", layers=1, context=CONTEXT)
    program = [sys.executable, "-m", "extracot_server.cli"]
    with contextlib.ExitStack() as stack:
        port, inner = free_port(), free_port()
        flags = ["--model", str(model), "--vllm", "stream_interval=1"]
        if remote:
            vllm = [*program, "vllm", str(model), "--port", str(inner), "--enforce-eager"]
            vllm += ["--dtype", "float32", "--block-size", "32", "--stream-interval", "1"]
            vllm += ["--kv-cache-memory-bytes", str(2**28)]
            log = folder / "vllm.log"
            stack.enter_context(server("vllm", vllm, inner, str(model), log))
            flags = ["--engine", "remote", "--upstream", f"http://127.0.0.1:{inner}"]
            flags += ["--tokenizer", str(model)]
        command = [*program, *flags, "--port", str(port), "--served-model-name", "bench"]
        command += ["--assumed-reasoning-tokens", str(CONTEXT)]
        one = stack.enter_context(server("ours", command, port, "bench", folder / "log"))
        end = Tokenizer.from_file(str(model / "tokenizer.json")).token_to_id("</think>")
        yield Place(one.url, f"http://127.0.0.1:{inner}" if remote else one.url, end)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.caps", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--caps", default="512,8192", help="reasoning tokens, comma-separated")
    parser.add_argument("--repeats", type=int, default=3, help="replies at each (default: 3)")
    parser.add_argument("--remote", action="store_true", help="the engine is vLLM's own server")
    parser.add_argument("--quick", action="store_true", help="one reply with a cap of 64")
    args = parser.parse_args(argv)
    if args.quick:
        args.caps, args.repeats = "64", 1
    print(about_this_machine())
    with tempfile.TemporaryDirectory() as folder, served(Path(folder), args.remote) as place:
        reply(place, "Are you there?", 8)  # warms up
        caps = [int(cap) for cap in args.caps.split(",") for _ in range(args.repeats)]
        rows = [row(place, cap, number) for number, cap in enumerate(caps)]
    print(table(HEAD, rows))


if __name__ == "__main__":
    main()
