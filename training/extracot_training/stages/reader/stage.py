"""Trains the reader (stage ``reader``): plain PyTorch, any batch a function of seed and step.

The folder then holds a Hugging Face model and tokenizer, ``reader.json`` (how to ask it), and
``log.jsonl``. A restart point (``checkpoint.pt``) is written atomically and removed at the end.
"""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from extracot_training.compression.answering import SEEN, Reader, ReaderCard, question_hash
from extracot_training.compression.final_answer import redact
from extracot_training.config.reader import ReaderConfig
from extracot_training.errors import ConfigError
from extracot_training.pipeline.files import write_atomic
from extracot_training.pipeline.markdown import table
from extracot_training.pipeline.stage import Counts, StageResult, StageRun, run_stage
from extracot_training.policy.pretrained import new_llama
from extracot_training.stages.reader.examples import (
    KINDS,
    POOL,
    PROMPT,
    Example,
    ExampleMaker,
    build_tokenizer,
    corrupt,
)
from extracot_training.synthetic import Generator, WordProblem

# Of a question about one of several stories, the two sentences that say which and what.
ASKING_SENTENCES = 2
CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"
VOCABULARY_PROBLEMS = 3000
# Problems with an index this high are never trained on: the stage evaluates itself on them.
FIRST_HELD_OUT = 10_000_000
# Problems with what is left of their traces.
Trial = list[tuple[WordProblem, str]]


def run(config: ReaderConfig, *, force: bool = False) -> StageResult:
    """Stage ``reader``."""
    return run_stage(
        "reader", config, {}, lambda stage: _Training(config, stage).work(), force=force
    )


class _Training:
    def __init__(self, config: ReaderConfig, stage: StageRun) -> None:
        self._config = config
        self._stage = stage
        self._generator = Generator(**config.problems.model_dump())
        self._card = ReaderCard(
            prompt=PROMPT,
            max_new_tokens=14,
            worked=True,
            hide_numbers=True,
            sentences=ASKING_SENTENCES if config.problems.threads > 1 else 0,
        )
        if config.model.width % config.model.heads:
            raise ConfigError("width must be a multiple of heads", key="model.width")

    def work(self) -> Counts:
        config, folder = self._config, self._stage.folder
        if config.threads:
            torch.set_num_threads(config.threads)
        texts = (
            text
            for problem in self._generator.make(VOCABULARY_PROBLEMS)
            for text in (problem.question, problem.trace)
        )
        tokenizer = build_tokenizer(texts, config.problems.max_number)
        self._maker = ExampleMaker(
            tokenizer, self._generator, self._card, redact_share=config.redact
        )
        torch.manual_seed(config.seed)
        model = new_llama(tokenizer, config.model, bos_token_id=tokenizer.bos_token_id).train()
        optimizer = torch.optim.AdamW(
            model.parameters(), config.learning_rate, (0.9, 0.95), weight_decay=config.weight_decay
        )
        start = _restore(folder / CHECKPOINT, model, optimizer)
        for step in range(start, config.steps):
            for group in optimizer.param_groups:
                group["lr"] = _rate(config, step)
            loss = self._step(model, optimizer, step)
            done = step + 1
            figures: dict[str, float] = {}
            if done % config.evaluate_every == 0 or done == config.steps:
                figures = self._evaluate(model, tokenizer)
            if figures or done % 25 == 0:
                with (folder / LOG).open("a", encoding="utf-8") as stream:
                    line = {"step": done, "loss": round(loss, 4), **figures}
                    stream.write(json.dumps(line) + "\n")
            if done % config.checkpoint_every == 0 and done < config.steps:
                _save(folder / CHECKPOINT, done, model, optimizer)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        self._card.save(folder)
        # The hashes of all questions it learned from, so that none is used to judge with it.
        hashes = {question_hash(problem.question) for problem in self._generator.make(POOL)}
        write_atomic(folder / SEEN, "".join(f"{one}\n" for one in sorted(hashes)))
        size = sum(parameter.numel() for parameter in model.parameters())
        self._stage.report(_report(config, size, figures), {"parameters": size, **figures})
        (folder / CHECKPOINT).unlink(missing_ok=True)
        return {"parameters": size, "steps": config.steps, **figures}

    def _step(self, model: Any, optimizer: torch.optim.Optimizer, step: int) -> float:
        """One optimizer step over ``rows`` examples, in slices of like length. Returns the loss."""
        config = self._config
        examples = [self._example(step, row) for row in range(config.rows)]
        examples.sort(key=lambda example: len(example.ids))
        total = sum(weight for example in examples for _, _, weight in example.targets)
        size = max(1, config.rows // 4)
        loss_sum = 0.0
        for begin in range(0, len(examples), size):
            loss = _loss(model, examples[begin : begin + size]) / total
            torch.autograd.backward(loss)
            loss_sum += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss_sum

    def _example(self, step: int, row: int) -> Example:
        index = step * self._config.rows + row
        # A few bare equations among the stories keep the tables fresh.
        if step < self._config.arithmetic_steps or row < self._config.rows // 16:
            return self._maker.arithmetic(index)
        example = self._maker.story(index)
        if len(example.ids) > self._config.model.positions:
            return self._maker.arithmetic(index)
        return example

    def _evaluate(self, model: Any, tokenizer: Any) -> dict[str, float]:
        """Share of right answers on held-out problems by what is left of the trace."""
        problems = [
            self._generator.problem(FIRST_HELD_OUT + i) for i in range(self._config.evaluate_on)
        ]
        model.eval()
        reader = Reader(model, tokenizer, self._card)
        figures = {name: _accuracy(reader, trial) for name, trial in _trials(problems).items()}
        model.train()
        return figures


def _trials(problems: list[WordProblem]) -> dict[str, Trial]:
    trials: dict[str, Trial] = {
        "plain_full": [(p, p.trace) for p in problems],
        "redacted_full": [(p, redact(p.trace, str(p.answer))) for p in problems],
        "empty": [(p, "") for p in problems],
        **{f"redacted_{kind}": [] for kind in KINDS if kind not in ("full", "empty")},
    }
    # Corrupted first and hidden then, as in training and in the report: a mark breaks a formula.
    for problem in problems:
        text, kind = corrupt(problem.trace, Random(f"trial:{problem.index}"))
        if kind not in ("full", "empty"):
            trials[f"redacted_{kind}"].append((problem, redact(text, str(problem.answer))))
    return trials


def _accuracy(reader: Reader, trial: Trial) -> float:
    right = reader.right(
        [problem.question for problem, _ in trial],
        [text for _, text in trial],
        [str(problem.answer) for problem, _ in trial],
    )
    return round(sum(right) / len(right), 4) if right else 0.0


def _loss(model: Any, examples: list[Example]) -> Tensor:
    """Weighted cross-entropy, summed over all targets of a slice (padded on the right)."""
    ids = [torch.tensor(example.ids) for example in examples]
    hidden = model.model(
        input_ids=pad_sequence(ids, batch_first=True),
        attention_mask=pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
    ).last_hidden_state
    rows, at, follows, weights = zip(
        *((row, *target) for row, example in enumerate(examples) for target in example.targets),
        strict=True,
    )
    logits = model.lm_head(hidden[list(rows), list(at)])
    losses = torch.nn.functional.cross_entropy(logits, torch.tensor(follows), reduction="none")
    return (losses * torch.tensor(weights)).sum()


def _rate(config: ReaderConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to a tenth."""
    warm = max(1, int(config.steps * config.warmup))
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    progress = (step - warm) / max(1, config.steps - warm)
    return config.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))


def _save(path: Path, done: int, model: Any, optimizer: torch.optim.Optimizer) -> None:
    buffer = io.BytesIO()
    torch.save(
        {"done": done, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, buffer
    )
    write_atomic(path, buffer.getvalue())


def _restore(path: Path, model: Any, optimizer: torch.optim.Optimizer) -> int:
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["done"])


def _report(config: ReaderConfig, size: int, figures: dict[str, float]) -> str:
    rows = (f"{name} | {value:.3f}" for name, value in figures.items())
    return "\n".join(
        [
            "# Reader",
            "",
            f"{size:,} parameters, {config.steps} steps of {config.rows} examples, trained from "
            "scratch on generated (synthetic) problems.",
            f"Share of right answers on {config.evaluate_on} held-out problems:",
            "",
            *table("what is left of the trace | right", rows),
            "",
        ]
    )
