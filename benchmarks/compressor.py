"""Speed of the compressor on this machine: tokens per second, and what further ratios cost.

    python benchmarks/compressor.py [--compressor FOLDER] [--traces 32] [--repeats 3]

Prints a Markdown table. Traces are generated word problems; tokens are the encoder's, of traces
only. One level and five are timed in turns, after a warm-up; times and ratios are medians, and the
range of the ratios stands beside.
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

from extracot_training.compression.scoring import CompressorScorer
from extracot_training.stages.compress.stage import Compressor
from extracot_training.synthetic import Generator

LEVELS = (0.2, 0.4, 0.6, 0.8, 1.0)
ONE = (0.4,)
BATCH = 32

Item = tuple[str, str, str | None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--compressor", type=Path, help="trained compressor [the shipped one]")
    parser.add_argument("--traces", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    items = items_of(args.traces)
    scorer = CompressorScorer.load(args.compressor, device=args.device)
    tokens = sum(len(scorer.tokenizer.tokenize(trace)) for _, trace, _ in items)
    print(
        f"{args.traces} traces, {tokens} tokens; {platform.processor() or platform.machine()}, "
        f"{torch.get_num_threads()} threads, device {args.device}, torch {torch.__version__}\n"
    )
    print("| batch | levels | seconds | tokens/s |")
    print("|---|---|---|---|")
    for batch in (1, BATCH):
        compressor = Compressor.load(args.compressor, batch=batch, device=args.device)
        one, five = (
            partial(_run, compressor, items, levels, together=batch > 1) for levels in (ONE, LEVELS)
        )
        pairs = _paired(one, five, args.repeats)
        for levels, seconds in zip((ONE, LEVELS), zip(*pairs, strict=True), strict=True):
            taken = statistics.median(seconds)
            print(f"| {batch} | {len(levels)} | {taken:.2f} | {tokens / taken:.0f} |")
        ratios = sorted(second / first for first, second in pairs)
        print(
            f"| {batch} | 5 against 1 | ×{statistics.median(ratios):.3f} "
            f"(×{ratios[0]:.3f} to ×{ratios[-1]:.3f}) | |"
        )


def items_of(count: int) -> list[Item]:
    """Question, trace and answer of generated word problems."""
    problems = Generator(seed=5, max_number=1000, steps=(2, 5)).make(count)
    return [(problem.question, problem.trace, str(problem.answer)) for problem in problems]


def traces_per_second(count: int, repeats: int) -> list[float]:
    """Of the shipped compressor at all levels, in batches, on the CPU: one figure per repeat."""
    compressor, items = Compressor.load(None, batch=BATCH, device="cpu"), items_of(count)
    times = _times(partial(_run, compressor, items, LEVELS, together=True), repeats)
    return [count / seconds for seconds in times]


def _run(
    compressor: Compressor,
    items: Sequence[Item],
    levels: Sequence[float],
    *,
    together: bool,
) -> None:
    if together:
        compressor.compress_many(items, levels)
    else:
        for question, text, answer in items:
            compressor.compress(question, text, levels, answer=answer)


def _paired(
    one: Callable[[], object], two: Callable[[], object], repeats: int
) -> list[tuple[float, float]]:
    """Seconds of both, in turns, so that what the machine does beside falls on both."""
    one()
    two()
    return [(_seconds(one), _seconds(two)) for _ in range(repeats)]


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _times(work: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each repeat, after one that does not count."""
    work()
    return [_seconds(work) for _ in range(repeats)]


if __name__ == "__main__":
    main()
