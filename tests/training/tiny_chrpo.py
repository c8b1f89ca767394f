"""A micro-model that has learned everything but which level to choose.

It counts to ten at level 1.0, to two at level 0.2, and always answers 7. That is right for
problems about red pens, whatever the level, and wrong for those about blue ones: the first need
level 0.2, the second, which no level solves, count as 1.0. In policy mode it picks any level, with
a lean to small ones for red pens and to large ones for blue ones, as after a warm-up by measured
levels.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from extracot.control import Control, level_token
from extracot_training.config.base import BaseModelConfig
from extracot_training.config.chrpo import ChrpoConfig
from extracot_training.pipeline.records import Problem, write_rows
from extracot_training.pipeline.reference_rows import LevelAttempt, LevelAttempts, ReferenceRow
from extracot_training.policy.loading import load_policy_model, load_policy_tokenizer
from extracot_training.policy.mixed_rows import MixedRow
from extracot_training.policy.prompt_settings import PromptSettings
from extracot_training.stages.base import stage as base_stage
from extracot_training.stages.chrpo.stage import run
from extracot_training.stages.chrpo.trainer import ChrpoTrainer

PROMPT = PromptSettings(instruction="")
SHAPE = {"width": 32, "layers": 2, "heads": 1, "head_dim": 32, "feed_forward": 64}
COLOURS = {"red": "7", "blue": "8"}
COUNT = 12
LEAN = {"red": (5, 4, 3, 2, 1), "blue": (1, 2, 3, 4, 5)}


def question(colour: str, number: int) -> str:
    return f"Ana has {number} {colour} pens."


def counted(level: float) -> str:
    return " ".join(str(one) for one in range(1, round(10 * level) + 1))


def make_problems(root: Path) -> Path:
    """``problems``: red and blue ones, every third of split dev."""
    rows = [
        Problem(
            id=f"{colour}{number}", question=question(colour, number), answer=gold, source="test",
            license="none", split="dev" if number % 3 == 2 else "train", family=colour, steps=1,
        )
        for number in range(COUNT)
        for colour, gold in COLOURS.items()
    ]  # fmt: skip
    (root / "problems").mkdir(parents=True)
    write_rows(root / "problems" / "rows.jsonl", rows)
    return root / "problems"


def make_model(root: Path, *, steps: int = 250) -> Path:
    """``sft``: a folder as stage sft leaves it, trained here in a few seconds."""
    words = [*(question(colour, n) for colour in COLOURS for n in range(COUNT)), counted(1.0)]
    (root / "words").mkdir(parents=True)
    (root / "words" / "rows.jsonl").write_text(
        "".join(f'{{"text": "{text} \\\\boxed{{7}}", "n": {n}}}\n' for n, text in enumerate(words))
    )
    base = base_stage.run(
        BaseModelConfig.model_validate(
            {"inputs": [root / "words"], "out": root / "base", "model": SHAPE, "prompt": PROMPT,
             "vocabulary": {"numbers": 20, "min_count": 1}}
        )
    )  # fmt: skip
    model, tokenizer, _ = load_policy_model(str(base.folder), PROMPT, seed=1)
    _teach(model, tokenizer, steps)
    model.save_pretrained(root / "sft")
    tokenizer.save_pretrained(root / "sft")
    PROMPT.save(root / "sft")
    return root / "sft"


def make_reference(root: Path) -> Path:
    """``reference``: what stage reference would find, with L_ref as counted at level 1.0."""
    rows = []
    tokenizer, _ = load_policy_tokenizer(str(root / "sft"), PROMPT)
    renderer = PROMPT.renderer(tokenizer)
    outside = len([*renderer.close_ids, *renderer.encode_text("\\boxed{7}")]) + 1
    for colour in COLOURS:
        for number in range(COUNT):
            attempts = [
                LevelAttempts(level=level, attempts=[_attempt(colour, level, outside)] * 2)
                for level in PROMPT.ratios
            ]
            rows.append(
                ReferenceRow.measured(
                    attempts, problem_id=f"{colour}{number}", question=question(colour, number),
                    gold=COLOURS[colour], split="dev" if number % 3 == 2 else "train",
                )
            )  # fmt: skip
    (root / "reference").mkdir(parents=True)
    write_rows(root / "reference" / "rows.jsonl", rows)
    return root / "reference"


def make_mixed(root: Path) -> Path:
    """``mixed``: rows of every level and policy rows, with the model's tokenizer."""
    tokenizer, _ = load_policy_tokenizer(str(root / "sft"), PROMPT)
    renderer, rows = PROMPT.renderer(tokenizer), []
    for copy, level in enumerate(PROMPT.ratios):
        for number in range(COUNT):
            fixed, _, free = _rows(renderer, question("blue", number), level, 1)
            for kind, (prompt, reply) in (("level", fixed), ("policy", free)):
                rows.append(
                    MixedRow(
                        problem_id=f"blue{number}", sample=0, kind=kind, level=level,
                        copy_number=copy if kind == "policy" else 0,
                        prompt_ids=list(prompt), reply_ids=list(reply),
                        reasoning_tokens=2 * round(10 * level) - 1, full_tokens=19,
                    )
                )  # fmt: skip
    (root / "mixed").mkdir(parents=True)
    write_rows(root / "mixed" / "rows.jsonl", rows)
    tokenizer.save_pretrained(root / "mixed" / "tokenizer")
    return root / "mixed"


def make_all(root: Path, **teaching: Any) -> Path:
    """Everything that stage chrpo reads."""
    make_problems(root)
    make_model(root, **teaching)
    make_reference(root)
    make_mixed(root)
    return root


def chrpo_config(root: Path, **settings: Any) -> ChrpoConfig:
    known: dict[str, Any] = {
        "input": root / "reference", "model": str(root / "sft"), "out": root / "chrpo",
        "rollouts": {"max_tokens": 48}, "evaluation": {"every": 0, "samples": 8},
        "steps": 6, "prompts": 4, "group": 6, "learning_rate": 0.002, "warmup": 0.0,
        "precision": "fp32", "gradient_checkpointing": False, "device": "cpu", "threads": 1,
        "checkpoint_every": 2, "seed": 3,
    }  # fmt: skip
    return ChrpoConfig.model_validate(known | settings)


def run_until_killed(config: ChrpoConfig, monkeypatch: pytest.MonkeyPatch, *, after: int) -> None:
    """Run, and be killed when so many updates are done."""
    step = ChrpoTrainer.training_step

    def killed(self: ChrpoTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.state.global_step == after:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ChrpoTrainer, "training_step", killed)
        run(config)


def _attempt(colour: str, level: float, outside: int) -> LevelAttempt:
    tokens = round(10 * level) * 2 - 1
    return LevelAttempt(
        correct=colour == "red", closed=True, boxed="7", tokens=tokens, total=tokens + outside
    )


def _teach(model: Any, tokenizer: Any, steps: int) -> None:
    renderer, random = PROMPT.renderer(tokenizer), Random(5)
    optimizer = torch.optim.AdamW(model.parameters(), 0.01, (0.9, 0.98))
    rows = []
    for colour in COLOURS:
        for level, copies in zip(PROMPT.ratios, LEAN[colour], strict=True):
            for number in range(COUNT):
                rows += _rows(renderer, question(colour, number), level, copies)
    width = max(len(prompt) + len(reply) for prompt, reply in rows)
    for _ in range(steps):
        batch = random.sample(rows, 32)
        ids = torch.full((len(batch), width), tokenizer.pad_token_id)
        labels = torch.full((len(batch), width), -100)
        for row, (prompt, reply) in enumerate(batch):
            end = len(prompt) + len(reply)
            ids[row, :end] = torch.tensor([*prompt, *reply])
            labels[row, len(prompt) : end] = torch.tensor(reply)
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def _rows(renderer: Any, text: str, level: float, copies: int) -> list[tuple[Any, Any]]:
    """Two rows at the level, and so many in policy mode that choose it."""
    token, reasoning, answer = level_token(level), counted(level), "\\boxed{7}"
    at_level, policy = Control.level(token), Control.policy()
    fixed = PROMPT.prompt_ids(renderer, text, at_level)
    free = PROMPT.prompt_ids(renderer, text, policy)
    chosen = renderer.reply_ids(policy, reasoning, answer, level_token=token)
    return [(fixed, renderer.reply_ids(at_level, reasoning, answer))] * 2 + [
        (free, chosen)
    ] * copies
