"""Speed of the compressor on this machine: tokens per second, and what further ratios cost.

    python benchmarks/compressor.py [--compressor FOLDER] [--traces 32] [--repeats 3]

Prints a Markdown table. Traces are generated word problems; tokens are the encoder's, of traces
only. Times are medians over the repeats, after one warm-up.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from extracot_training.compressor.compress import Compressor
from extracot_training.compressor.scoring import Scorer
from extracot_training.generator import Generator

LEVELS = (0.2, 0.4, 0.6, 0.8, 1.0)
ONE = (0.4,)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--compressor", type=Path, help="trained compressor [the shipped one]")
    parser.add_argument("--traces", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    problems = list(Generator(seed=5, max_number=1000, steps=(2, 5)).make(args.traces))
    items: list[tuple[str, str, str | None]] = [
        (problem.question, problem.trace, str(problem.answer)) for problem in problems
    ]
    scorer = Scorer.load(args.compressor, device=args.device)
    tokens = sum(len(scorer.tokenizer.tokenize(problem.trace)) for problem in problems)
    print(
        f"{args.traces} traces, {tokens} tokens; {platform.processor() or platform.machine()}, "
        f"{torch.get_num_threads()} threads, device {args.device}, torch {torch.__version__}\n"
    )
    print("| batch | levels | seconds | tokens/s |")
    print("|---|---|---|---|")
    for batch in (1, 32):
        compressor = Compressor.load(args.compressor, batch=batch, device=args.device)
        seconds = {}
        for levels in (ONE, LEVELS):
            work = partial(_run, compressor, items, levels, together=batch > 1)
            seconds[len(levels)] = _median(work, args.repeats)
            taken = seconds[len(levels)]
            print(f"| {batch} | {len(levels)} | {taken:.2f} | {tokens / taken:.0f} |")
        print(f"| {batch} | 5 against 1 | ×{seconds[5] / seconds[1]:.3f} | |")


def _run(
    compressor: Compressor,
    items: Sequence[tuple[str, str, str | None]],
    levels: Sequence[float],
    *,
    together: bool,
) -> None:
    if together:
        compressor.compress_many(items, levels)
    else:
        for question, text, answer in items:
            compressor.compress(question, text, levels, answer=answer)


def _median(work: Callable[[], object], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


if __name__ == "__main__":
    main()
