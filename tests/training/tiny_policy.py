"""Folders that the stages before ``mix`` would leave, a few traces large, and a micro-model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from extracot_training.config.base import BaseModelConfig
from extracot_training.config.mix import MixConfig
from extracot_training.config.sft import SftConfig
from extracot_training.pipeline.records import CompressedTrace, Problem, Trace, write_rows
from extracot_training.stages.base import stage as base_stage
from extracot_training.stages.mix import stage as mixture

RATIOS = (0.2, 0.4, 0.6, 0.8, 1.0)
PHRASE = "start with the pens then take some away and count what is left we have"
MICRO = {"width": 32, "layers": 1, "heads": 1, "head_dim": 32, "feed_forward": 48}


def question(number: int) -> str:
    return f"Ana has {number} pens and buys {number + 1} more. How many pens does Ana have?"


def full_text(number: int) -> str:
    """Twenty words, so that every ratio is a whole number of them."""
    return f"{PHRASE} {number} + {number + 1} = {2 * number + 1}."


def write_traces(root: Path, count: int = 12) -> None:
    """``problems``, ``teach`` and ``compress``; the last third of the problems is of split dev."""
    problems, traces, compressed = [], [], []
    for number in range(count):
        words = full_text(number).split()
        shared = {"problem_id": f"p{number}", "sample": 0, "question": question(number)}
        answer = f"\\boxed{{{2 * number + 1}}}"
        problems.append(
            Problem(
                id=f"p{number}", question=question(number), answer=str(2 * number + 1),
                source="test", license="none",
                split="train" if number < count * 2 // 3 else "dev",
            )
        )  # fmt: skip
        traces.append(
            Trace(
                **shared, reasoning=full_text(number), answer=answer, gold=str(2 * number + 1),
                correct=True, teacher="test",
            )
        )  # fmt: skip
        for ratio in RATIOS:
            kept = round(ratio * len(words))
            compressed.append(
                CompressedTrace(
                    **shared, answer=answer, gold=str(2 * number + 1), target=ratio,
                    text=" ".join(words[:kept]), realised=kept / len(words), overshoot=0.0,
                    tokens_full=len(words), tokens_kept=kept, kept_atoms=[], n_atoms=len(words),
                )
            )  # fmt: skip
    for name, rows in (("problems", problems), ("teach", traces), ("compress", compressed)):
        (root / name).mkdir(parents=True)
        write_rows(root / name / "rows.jsonl", rows)


def make_base(root: Path, **settings: Any) -> Path:
    """``base``: a micro-model whose tokenizer knows the traces."""
    config = BaseModelConfig.model_validate(
        {"inputs": [root / "teach"], "out": root / "base", "model": MICRO, **settings}
    )
    return base_stage.run(config).folder


def mix_config(root: Path, **settings: Any) -> MixConfig:
    known = {"compressed": root / "compress", "out": root / "mix", "model": str(root / "base")}
    return MixConfig.model_validate(known | settings)


def make_all(root: Path, **mix: Any) -> Path:
    """Everything up to ``mix``, which is returned."""
    write_traces(root)
    make_base(root)
    return mixture.run(mix_config(root, policy={"share": 0.2}, **mix)).folder


def sft_config(root: Path, **settings: Any) -> SftConfig:
    known = {
        "input": root / "mix", "model": str(root / "base"), "out": root / "sft",
        "learning_rate": 0.003, "batch": 4, "accumulation": 2, "precision": "fp32",
        "gradient_checkpointing": False, "device": "cpu", "threads": 1, "epochs": 2.0,
        "checkpoint_every": 2, "log_every": 1, "seed": 3,
    }  # fmt: skip
    return SftConfig.model_validate(known | settings)
