"""Benefit of budgets: latency and throughput of a running server at each budget, against native.

    python -m benchmarks.budgets               # starts the bundled model, asks problems of its kind
    python -m benchmarks.budgets --base-url http://127.0.0.1:8000 [--concurrency 8] [--requests 128]
        [--problems rows.jsonl]                # ask these, such as a folder of stage problems holds
    python -m benchmarks.budgets --quick      # starts the scripted engine: the harness, no result

The same questions at every budget, budgets in turns, as many at once as said. Times are on the
wall, so only their ratios within one run mean much. The paper reports 3.24× end to end at 0.2 (on
GSM8K, against the model it began with); a checkpoint in cap mode cuts by force instead. "auto" is
asked where the server has a policy. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx

from benchmarks.harness import about_this_machine, free_port, percentile, server, table
from extracot_training.config.load import load_config
from extracot_training.config.problems import GeneratorSource, ProblemsConfig
from extracot_training.stages.problems.sources.synthetic import read

PROBLEMS = Path(__file__).parents[1] / "training" / "configs" / "problems-small-test.yaml"
BUDGETS: tuple[float | str, ...] = ("native", 1.0, 0.8, 0.6, 0.4, 0.2, "none")
PAPER = 3.24


@dataclass
class Found:
    """What came of one budget; times in seconds."""

    wall: float = 0.0
    whole: list[float] = field(default_factory=list)
    answer: list[float] = field(default_factory=list)
    reasoning: list[int] = field(default_factory=list)
    generated: int = 0


def bundled_questions(count: int) -> list[str]:
    """Problems of the kind that the bundled model knows (some of their stories it may have met)."""
    settings = load_config(ProblemsConfig, PROBLEMS).sources[0]
    assert isinstance(settings, GeneratorSource)
    # The weights of what is asked make up for known stories that are left out, and none is here.
    alike = {"size": count, "unlike": (), "asked": (1, 2, 3)}
    source = settings.model_copy(update=alike)
    return [problem.question for problem in read(source)]


def questions(problems: Path | None, count: int) -> list[str]:
    """Word problems that differ, so that no prefix cache answers for the model.

    Raises ``ValueError`` for a file with fewer than ``count`` lines.
    """
    if problems is None:
        numbers = ((12 + number % 37, 3 + number % 11) for number in range(count))
        return [
            f"A shop sells {a} pens at {b} dollars each and gives back 5 dollars. How much is paid?"
            for a, b in numbers
        ]
    with problems.open(encoding="utf-8") as lines:
        found = [str(json.loads(line)["question"]) for line in islice(lines, count)]
    if len(found) < count:
        raise ValueError(f"{problems}: {len(found)} problems, {count} wanted (--requests)")
    return found


async def ask(client: httpx.AsyncClient, body: dict[str, Any], found: Found) -> None:
    """One stream, timed at its first answer token and at its end."""
    began, answered = perf_counter(), 0.0
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line[6:])
            for choice in chunk["choices"]:
                if choice["delta"].get("content") and not answered:
                    answered = perf_counter() - began
            if chunk.get("usage"):
                found.generated += chunk["usage"]["completion_tokens"]
                found.reasoning.append(chunk["budget"]["reasoning_tokens"])
    found.whole.append(perf_counter() - began)
    if answered:
        found.answer.append(answered)


async def run(args: argparse.Namespace, url: str, asked: Sequence[str]) -> dict[float | str, Found]:
    """Every budget, in turns of as many requests as run at once."""
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:
        offered = (await client.get("/v1/budget")).raise_for_status().json()
        auto = ("auto",) if (offered["card"] or {}).get("policy") else ()
        found: dict[float | str, Found] = {budget: Found() for budget in (*BUDGETS, *auto)}
        for start in range(0, len(asked), args.concurrency):
            for budget, result in found.items():
                began = perf_counter()
                await asyncio.gather(
                    *(
                        ask(client, body_of(question, budget, args.max_tokens), result)
                        for question in asked[start : start + args.concurrency]
                    )
                )
                result.wall += perf_counter() - began
    return found


def body_of(question: str, budget: float | str, max_tokens: int) -> dict[str, Any]:
    """A greedy streaming request."""
    return {
        "messages": [{"role": "user", "content": question}],
        "budget": budget,
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def rows(found: dict[float | str, Found]) -> Iterator[list[object]]:
    """A line for each budget; speed-ups are native over budget."""
    native = found["native"]
    for budget, one in found.items():
        replies = len(one.whole)
        latency, first = percentile(one.whole, 0.5), percentile(one.answer, 0.5)
        yield [
            budget,
            f"{sum(one.reasoning) / replies:.0f}",
            f"{one.generated / replies:.0f}",
            f"{latency:.2f}",
            f"{first:.2f}",
            f"{replies / one.wall:.2f}",
            f"×{percentile(native.whole, 0.5) / latency:.2f}",
            f"×{percentile(native.answer, 0.5) / first:.2f}" if first else "",
            f"×{native.wall / one.wall:.2f}",
        ]


@contextlib.contextmanager
def started(name: str, *flags: str) -> Iterator[str]:
    """A server of ours with these flags."""
    port = free_port()
    command = [sys.executable, "-m", "extracot_server.cli", *flags, "--port", str(port)]
    with (
        tempfile.TemporaryDirectory() as folder,
        server(name, command, port, name, Path(folder) / "log") as one,
    ):
        yield one.url


def asked_server(args: argparse.Namespace) -> contextlib.AbstractContextManager[str]:
    """The one at ``--base-url``, or one that is started: the bundled model, or for ``--quick`` the
    scripted engine, whose tokens cost next to nothing."""
    if args.base_url:
        return contextlib.nullcontext(args.base_url)
    if args.quick:
        return started("scripted", "--engine", "scripted")
    return started("small", "--model", "small")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--base-url", help="a running server (default: the bundled model is started)"
    )
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--requests", type=int, default=128, help="at each budget")
    parser.add_argument("--problems", type=Path, help="JSON lines with `question`")
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--quick", action="store_true", help="the scripted engine, few requests")
    args = parser.parse_args(argv)
    if args.quick:
        args.requests, args.concurrency, args.max_tokens = 4, 2, 256
    own = not (args.base_url or args.quick or args.problems)
    try:
        asked = bundled_questions(args.requests) if own else questions(args.problems, args.requests)
    except (OSError, ValueError) as error:
        parser.error(f"--problems: {error}")
    print(about_this_machine(), end="\n\n")
    with asked_server(args) as url:
        found = asyncio.run(run(args, url, asked))
    head = ("budget", "reasoning tokens", "tokens", "end to end s p50", "first answer token s p50")
    head += ("requests/s", "end to end", "first answer", "throughput")
    print(table(head, list(rows(found))))
    print(f"\nThe last three columns are native over budget (the paper's, end to end: ×{PAPER}).")


if __name__ == "__main__":
    main()
