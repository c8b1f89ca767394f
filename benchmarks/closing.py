"""What a closing and some grace are worth: accuracy and escapes of a model at hard and soft caps.

    python -m benchmarks.closing             # starts the bundled model without its card: cap mode
    python -m benchmarks.closing --base-url http://127.0.0.1:8000 [--model NAME] [--requests 200]
        [--problems rows.jsonl] [--closing "Time is up."] [--grace 32] [--out rows.jsonl]
    python -m benchmarks.closing --quick     # starts the scripted engine: the harness, no result

Every problem is asked natively and at each ratio four ways: cut off at the cap by the bare end tag,
with grace, with a closing, and with both. Accuracy is that of the boxed answer, the difference is
paired by problem, and escapes are what the server's report says of replies that were cut off. A
long answer is longer than 99 in 100 native ones: reasoning that goes on without any of the marks of
an escape would be among them. For problems of one's own: JSON lines with `question` and `answer`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.budgets import PROBLEMS, started
from benchmarks.harness import about_this_machine, percentile, table
from extracot.answers import extract_answer, same_answer
from extracot.card import CARD_FILENAME, BudgetCard
from extracot_client.problem_files import SweepFileError, read_problems
from extracot_server.model_registry.resolving import SHIPPED
from extracot_training.config.load import load_config
from extracot_training.config.problems import GeneratorSource, ProblemsConfig
from extracot_training.pipeline.statistics import estimate, paired
from extracot_training.stages.problems.sources.synthetic import read

RATIOS = (0.2, 0.4, 0.6)
WAYS = ("bare", "grace", "closing", "both")
CLOSING = "I have to answer now, with what I have so far."
HEAD = ("ratio", "cut off by", "reasoning tokens", "of them grace", "accuracy", "against bare")
HEAD += ("cut off", "escapes", "long answers", "no conclusion")
SAMPLES = {"resamples": 2000, "seed": 0}


@dataclass(frozen=True, slots=True)
class Row:
    """One reply. ``ratio`` is 0 for a native one."""

    problem: int
    ratio: float
    way: str
    right: bool
    concluded: bool
    reasoning: int
    grace: int
    answer: int
    cut_off: bool
    escaped: bool


def budget_of(ratio: float, way: str, closing: str, grace: int | None) -> Any:
    """A request's budget for one way of cutting off."""
    if not ratio:
        return "native"
    soft = way in ("grace", "both")
    return {
        "ratio": ratio,
        "enforce": "soft" if soft else "hard",
        "closing": closing if way in ("closing", "both") else "",
        "grace": grace if soft else None,
    }


async def ask(
    client: httpx.AsyncClient, args: argparse.Namespace, number: int, ratio: float, way: str
) -> Row:
    """One greedy reply, judged."""
    question, gold = args.asked[number]
    body = {
        "model": args.model,
        "messages": [{"role": "user", "content": question}],
        "budget": budget_of(ratio, way, args.closing, args.grace),
        "max_tokens": args.max_tokens,
        "temperature": 0,
    }
    response = await client.post("/v1/chat/completions", json=body)
    response.raise_for_status()
    reply = response.json()
    report, found = reply["budget"], extract_answer(reply["choices"][0]["message"]["content"])
    return Row(
        problem=number,
        ratio=ratio,
        way=way,
        right=same_answer(found, gold),
        concluded=found is not None,
        reasoning=report["reasoning_tokens"],
        grace=report["grace_tokens"],
        answer=report["answer_tokens"],
        cut_off=report["cap_hit"],
        escaped=bool(report["escaped"]),
    )


async def run(args: argparse.Namespace, url: str) -> list[Row]:
    """Every problem in every way, as many at once as said."""
    asks = [(0.0, "native"), *((ratio, way) for ratio in RATIOS for way in WAYS)]
    turns = asyncio.Semaphore(args.concurrency)
    async with httpx.AsyncClient(base_url=url, timeout=1800) as client:
        baseline = (await client.get("/v1/budget")).raise_for_status().json()["baseline"]
        print(f"Baseline of the server: {json.dumps(baseline)}\n")

        async def one(number: int, ratio: float, way: str) -> Row:
            async with turns:
                return await ask(client, args, number, ratio, way)

        numbers = range(len(args.asked))
        return await asyncio.gather(*(one(i, ratio, way) for i in numbers for ratio, way in asks))


def rows_of(found: Sequence[Row]) -> Iterator[list[object]]:
    """A line for native replies, and for each ratio and way."""
    native = [row for row in found if row.way == "native"]
    longest = percentile([float(row.answer) for row in native], 0.99)
    yield _line("native", "", native, None, longest)
    for ratio in RATIOS:
        bare = [row for row in found if (row.ratio, row.way) == (ratio, "bare")]
        for way in WAYS:
            some = [row for row in found if (row.ratio, row.way) == (ratio, way)]
            yield _line(ratio, way, some, None if way == "bare" else bare, longest)


def _line(
    ratio: object, way: str, some: Sequence[Row], bare: Sequence[Row] | None, longest: float
) -> list[object]:
    right = [float(row.right) for row in some]
    against = "" if bare is None else paired(right, [float(row.right) for row in bare], **SAMPLES)
    return [
        ratio,
        way,
        f"{sum(row.reasoning for row in some) / len(some):.0f}",
        f"{sum(row.grace for row in some) / len(some):.1f}",
        estimate(right, **SAMPLES),
        against,
        sum(row.cut_off for row in some),
        sum(row.escaped for row in some),
        sum(row.answer > longest for row in some),
        sum(not row.concluded for row in some),
    ]


def problems(path: Path | None, count: int) -> list[tuple[str, str]]:
    """Questions with their answers: the file's, or word problems such as the bundled model knows.

    Raises ``OSError``, ``ValueError`` or :class:`SweepFileError` for a file that has too few.
    """
    if path is None:
        settings = load_config(ProblemsConfig, PROBLEMS).sources[0]
        assert isinstance(settings, GeneratorSource)
        source = settings.model_copy(update={"size": count, "unlike": ()})
        return [(problem.question, str(problem.answer)) for problem in read(source)]
    with path.open(encoding="utf-8") as lines:
        read_ones = read_problems(lines, str(path), as_csv=path.suffix == ".csv")
    found = [(p.question, p.answer) for p in read_ones if p.answer is not None][:count]
    if len(found) < count:
        raise ValueError(f"{path}: {len(found)} problems with an answer, {count} wanted")
    return found


@contextlib.contextmanager
def without_card() -> Iterator[str]:
    """The bundled model served as one that has no card, with its card's native mean assumed."""
    folder = SHIPPED["small"]
    card = BudgetCard.load(folder)
    bins = card.baseline.native if card.baseline is not None else ()
    mean = sum(b.n * b.reasoning.mean for b in bins) / sum(b.n for b in bins)
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "small"
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(CARD_FILENAME))
        flags = ("--model", str(copy), "--assumed-reasoning-tokens", str(round(mean)))
        with started("small", *flags) as url:
            yield url


def asked_server(args: argparse.Namespace) -> contextlib.AbstractContextManager[str]:
    """The one at ``--base-url``, or one that is started."""
    if args.base_url:
        return contextlib.nullcontext(args.base_url)
    if args.quick:
        return started("scripted", "--engine", "scripted", "--card", "none")
    return without_card()


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--base-url", help="a running server (default: one is started)")
    parser.add_argument("--model", help="which of its models (default: the first)")
    parser.add_argument("--problems", type=Path, help="JSON lines with `question` and `answer`")
    parser.add_argument("--requests", type=int, default=200, help="problems, each asked 13 times")
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--closing", default=CLOSING, help=f"default: {CLOSING}")
    parser.add_argument("--grace", type=int, help="default: what the server's setting gives")
    parser.add_argument("--out", type=Path, help="also write a JSON line for each reply")
    parser.add_argument("--quick", action="store_true", help="the scripted engine, few requests")
    args = parser.parse_args(argv)
    if args.quick:
        args.requests, args.concurrency, args.max_tokens = 4, 2, 256
    try:
        args.asked = problems(args.problems, args.requests)
    except (OSError, ValueError, SweepFileError) as error:
        parser.error(f"--problems: {error}")
    print(about_this_machine())
    with asked_server(args) as url:
        found = asyncio.run(run(args, url))
    if args.out is not None:
        lines = (json.dumps(asdict(row)) + "\n" for row in found)
        args.out.write_text("".join(lines), encoding="utf-8")
    print(table(HEAD, list(rows_of(found))))


if __name__ == "__main__":
    main()
