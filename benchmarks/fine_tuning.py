"""Fine-tuning a pretrained model beside plain TRL: CPU time a token, and memory.

    python -m benchmarks.fine_tuning [--model bundled:smollm2] [--rows 48] [--rounds 2]

One epoch over the same rows (generated problems at every level, tokenized once) on the CPU, by each
side in turns, every turn in a process of its own. Prints a Markdown table: CPU seconds (user and
system) per token after the first step, the peak of resident memory, both also over TRL's of the
same round, and the mean loss of a reply's token in the epoch. The learning rate is next to nothing,
so that losses are of the same weights in every step.

Equal: weights, batches, precision, AdamW, no checkpointed gradients, a log line a step. TRL is
`SFTTrainer` as it comes, with the loss on completions and its fused head, but it reads the batches
in the order of our sampler, rows of like length together; `TRL, its own order` draws its batches as
it would by itself, which pads more. Ours: the output layer at reply tokens alone, passes of at most
`--pass-tokens`. `frozen` is ours with the lowest two thirds of the layers frozen; measured is its
second epoch, on their kept states, whose batches are others of the same rows.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

from benchmarks.harness import about_this_machine, table

THEIRS = "TRL"
THEIR_ORDER = "TRL, its own order"
SIDES = (THEIRS, "ours", "ours, frozen")
KNOWN = (*SIDES, THEIR_ORDER)
HEAD = (
    "side", "CPU s per 1,000 tokens", "over TRL's", "peak memory, GB", "over TRL's", "mean loss",
)  # fmt: skip


def turn(side: str, args: argparse.Namespace) -> dict[str, float]:
    """One epoch here: ``seconds`` of CPU time for ``tokens``, ``peak`` bytes, ``loss``."""
    import datasets
    import transformers
    from trl import SFTTrainer

    from benchmarks.trainers import PROMPT, SEED, rows_of, some_problems
    from extracot_training.config.sft import SftConfig
    from extracot_training.policy.loading import load_policy_model
    from extracot_training.stages.mix.stage import RowMaker
    from extracot_training.stages.sft.stage import make_trainer, sft_arguments
    from extracot_training.stages.sft.trainer import GroupedSampler, as_dataset

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    frozen = side == "ours, frozen"
    with TemporaryDirectory() as name:
        folder = Path(name)
        settings: dict[str, Any] = {
            "input": folder, "model": args.model, "out": folder, "seed": SEED, "device": "cpu",
            "precision": args.precision, "batch": args.batch, "accumulation": 1, "epochs": 1,
            "learning_rate": 1e-9, "weight_decay": 0.0, "gradient_checkpointing": False,
            "log_every": 1, "checkpoint_every": 0, "new_rows": "words",
        }  # fmt: skip
        if side not in (THEIRS, THEIR_ORDER):
            settings["pass_tokens"] = args.pass_tokens
        model, tokenizer, tokens = load_policy_model(args.model, PROMPT, seed=SEED, words=True)
        if frozen:
            layers = model.config.get_text_config().num_hidden_layers
            settings |= {"freeze_layers": 2 * layers // 3, "cache_states": {}, "epochs": 2}
        config = SftConfig.model_validate(settings)
        count = -(-args.rows // (len(PROMPT.ratios) + 1))
        rows = rows_of(some_problems(count), RowMaker(tokenizer, PROMPT))[: args.rows]
        sampler = GroupedSampler([row.length for row in rows], args.batch, seed=SEED)
        sampler.set_epoch(int(config.epochs) - 1)
        measured = [rows[place] for place in sampler]
        trainer: Any
        if side in (THEIRS, THEIR_ORDER):
            arguments = sft_arguments(config, folder)
            if side == THEIRS:
                arguments.train_sampling_strategy = "sequential"
            trainer = SFTTrainer(
                model=model, args=arguments, train_dataset=as_dataset(measured),
                processing_class=tokenizer,
            )  # fmt: skip
        else:
            trainer = make_trainer(config, folder, rows, model, tokenizer, tokens)
        steps = len(rows) // args.batch
        clock = _clock(after=steps if frozen else 1)
        trainer.add_callback(clock)
        trainer.train()
        losses = [line["loss"] for line in trainer.state.log_history if "loss" in line][-steps:]
    replies = [len(row.reply_ids) for row in measured]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "seconds": clock.seconds, "tokens": clock.tokens, "peak": peak,
        "loss": nan if side == THEIR_ORDER else loss_of_a_token(losses, replies),
    }  # fmt: skip


def loss_of_a_token(losses: Sequence[float], replies: Sequence[int]) -> float:
    """The mean over all tokens of ``replies`` (tokens of each row, in order) by the mean losses of
    their batches: which rows are together makes no difference to it."""
    batch = len(replies) // len(losses)
    counts = [sum(replies[at : at + batch]) for at in range(0, len(replies), batch)]
    sums = [loss * count for loss, count in zip(losses, counts, strict=True)]
    return sum(sums) / sum(replies)


def _clock(after: int) -> Any:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        """CPU time and tokens from the end of step ``after`` on."""

        seconds, tokens = 0.0, 0
        _began, _seen = 0.0, 0

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == after:
                self._began, self._seen = process_time(), state.num_input_tokens_seen
            elif state.global_step > after:
                self.seconds = process_time() - self._began
                self.tokens = state.num_input_tokens_seen - self._seen

    return Clock()


def in_turns(args: argparse.Namespace, given: Sequence[str]) -> dict[str, list[dict[str, float]]]:
    """Every side of every round in a fresh process with the flags ``given``; the order turns."""
    found: dict[str, list[dict[str, float]]] = {side: [] for side in args.sides}
    for number in range(args.rounds):
        for side in args.sides if number % 2 == 0 else reversed(args.sides):
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.fine_tuning", *given]
            done = subprocess.run([*command, f"--turn={side}"], stdout=subprocess.PIPE, check=True)
            found[side].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"round {number + 1}, {side}: {found[side][-1]}", file=sys.stderr, flush=True)
    return found


def rows_told(found: Mapping[str, Sequence[Mapping[str, float]]]) -> list[tuple[object, ...]]:
    """The table's rows: medians, and of ratios of the same round."""
    rows: list[tuple[object, ...]] = []
    for side, turns in found.items():
        cost = [1000 * one["seconds"] / one["tokens"] for one in turns]
        peak = [one["peak"] / 1e9 for one in turns]
        told = [side, f"{median(cost):.2f}", "", f"{median(peak):.2f}", "",
                f"{median(one['loss'] for one in turns):.4f}"]  # fmt: skip
        if side != THEIRS and THEIRS in found:
            theirs = found[THEIRS]
            per_token = [1000 * one["seconds"] / one["tokens"] for one in theirs]
            told[2] = f"{median(a / b for a, b in zip(cost, per_token, strict=True)):.2f}"
            sizes = [one["peak"] / 1e9 for one in theirs]
            told[4] = f"{median(a / b for a, b in zip(peak, sizes, strict=True)):.2f}"
        rows.append(tuple(told))
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="bundled:smollm2", help="as stage sft names one")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--rows", type=int, default=48, help="of an epoch [48]")
    parser.add_argument("--batch", type=int, default=8, help="rows a step [8]")
    parser.add_argument("--pass-tokens", type=int, default=1024, help="ours: of a pass [1024]")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each side [2]")
    parser.add_argument("--sides", nargs="+", default=SIDES, choices=KNOWN,
                        help=f"of {', '.join(KNOWN)} [all but the last]")  # fmt: skip
    parser.add_argument("--turn", choices=KNOWN, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.batch < 1 or args.rows % args.batch or args.rows < 2 * args.batch:
        parser.error("--rows must be a multiple of --batch, at least twice as many")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # TRL would tell its makers that it runs
    if args.turn:
        print(json.dumps(turn(args.turn, args)))
        return
    print(about_this_machine())
    print(table(HEAD, rows_told(in_turns(args, sys.argv[1:] if argv is None else argv))))


if __name__ == "__main__":
    main()
