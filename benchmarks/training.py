"""Speed of our training steps beside plain TRL's, and of the compressor.

    python -m benchmarks.training [--quick] [--rounds 20]

Prints Markdown tables: tokens/s of SFT and CHRPO steps, and our time a token over that of TRL's
`SFTTrainer` and `GRPOTrainer` (at most 1.05 is wanted). Sides take turns in this one process, step
by step, and ratios are of the same step: median and range, on the wall and of CPU time. What is
equal on both sides and what is not says `benchmarks/trainers.py`. On the CPU, in float32, on small
Llama models of random weights that are made on the spot; nothing is fetched. Last, traces/s of the
compressor that comes with the package. `OMP_NUM_THREADS=1` gives the steadiest figures.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.harness import about_this_machine, table
from benchmarks.paired import Parts, Side, ratios, spread, take_turns, tokens_per_second

if TYPE_CHECKING:
    from benchmarks.trainers import Scale

HEAD = (
    "weights", "step", "part", "side", "tokens/s", "time a token, ours / TRL's", "CPU time a token",
)  # fmt: skip
THEIRS = "TRL"
# The sides of a step by name, and how each is told to `benchmarks/trainers.py`.
SFT = {THEIRS: None, "ours, as on a CPU": "plain", "ours, TRL's fused head": "fused"}
CHRPO = {THEIRS: None, "ours": "generate", "ours, TRL's generate": "trl"}


def rows_of(
    weights: int, step: str, found: Mapping[str, Sequence[Parts]]
) -> list[tuple[object, ...]]:
    """A row for each part of each side, the first side's (TRL's) without a ratio."""
    theirs = found[THEIRS]
    rows: list[tuple[object, ...]] = []
    for part in theirs[0]:
        for side, rounds in found.items():
            compared = ("", "")
            if side != THEIRS:
                wall, cpu = ratios(rounds, theirs, part), ratios(rounds, theirs, part, "cpu")
                compared = (spread(wall), spread(cpu))
            speed = f"{tokens_per_second(rounds, part):.0f}"
            rows.append((f"{weights / 1e6:.2f} M", step, part, side, speed, *compared))
    return rows


def compare(scale: Scale, rounds: int, warm_up: int) -> list[tuple[object, ...]]:
    """The table's rows of one model."""
    from benchmarks.trainers import World, chrpo, sft

    rows: list[tuple[object, ...]] = []
    with TemporaryDirectory() as folder:
        world = World.make(Path(folder), scale, warm_up + rounds)
        steps: dict[str, dict[str, Side]] = {
            "SFT": {side: partial(sft, world, how) for side, how in SFT.items()},
            "CHRPO": {side: partial(chrpo, world, how) for side, how in CHRPO.items()},
        }
        for step, sides in steps.items():
            found = take_turns(sides, rounds, warm_up=warm_up)
            rows += rows_of(world.weights, step, found)
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tiny model, one round: a smoke")
    parser.add_argument("--rounds", type=int, default=20, help="steps of each side [20]")
    args = parser.parse_args(argv)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # TRL would tell its makers that it runs

    import datasets
    import torch
    import transformers

    from benchmarks.compressor import LEVELS, traces_per_second
    from benchmarks.trainers import FULL, QUICK

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    print(f"{about_this_machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    rounds, warm_up = (1, 1) if args.quick else (args.rounds, 3)
    scales = (QUICK,) if args.quick else FULL
    for scale in scales:
        print(table(HEAD, compare(scale, rounds, warm_up)), end="\n\n", flush=True)
    traces, repeats = (2, 1) if args.quick else (32, 3)
    speeds = traces_per_second(traces, repeats)
    print(table(("compressor: traces", "levels of each", "traces/s"),
                       [(traces, len(LEVELS), spread(speeds))]))  # fmt: skip


if __name__ == "__main__":
    main()
