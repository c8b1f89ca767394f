"""TRL's trainer with the few things added that a stage needs.

Order of rows by seed and epoch, an error at the first loss that is no number, whole checkpoints
marked, a log in the stage's folder. Knows no configuration.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback
from trl import SFTTrainer

from extracot_training.pipeline.checkpoints import LossError, mark_whole
from extracot_training.policy.reply_loss import IGNORED, reply_loss
from extracot_training.stages.sft.rows import GroupedSampler

LOGGED = (
    "loss", "grad_norm", "learning_rate", "mean_token_accuracy", "entropy", "epoch",
    "num_input_tokens_seen",
)  # fmt: skip


class BudgetSftTrainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer over rows in the order of ``sampler`` (``None``: the trainer's own).

    ``plain_loss``: cross-entropy on logits of the reply's part of the batch, instead of TRL's
    fused head. The fused one saves memory on a GPU; on a CPU it costs a third of the speed
    (it scores prompts, too), and it reads the head's weights past PEFT's trained rows.
    """

    def __init__(
        self,
        *args: Any,
        sampler: GroupedSampler | None,
        plain_loss: bool = False,
        **kwargs: Any,
    ) -> None:
        self._sampler = sampler
        self._plain_loss = plain_loss
        super().__init__(*args, **kwargs)
        self.remove_callback(PrinterCallback)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self._sampler or super()._get_train_sampler(train_dataset)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As the base class's. Raises :class:`LossError` for a loss that is NaN or infinite."""
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        if not bool(torch.isfinite(loss)):
            raise LossError(
                f"step {self.state.global_step + 1}: the loss is {loss.item()}; lower "
                "learning_rate, or use precision fp32 or bf16 instead of pure_bf16"
            )
        return loss

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean negative log-likelihood per reply token; ``inputs`` are (rows, length) tensors."""
        if not self._plain_loss or return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        inputs = dict(inputs)
        labels = inputs.pop("labels")
        total, logits, targets = reply_loss(model, inputs, labels)
        if num_items_in_batch is None:
            loss = total / (labels != IGNORED).sum().clamp(min=1)
        else:
            loss = total / num_items_in_batch
            if self.args.average_tokens_across_devices:  # that count is of all devices' tokens
                loss = loss * self.accelerator.num_processes
        with torch.no_grad():
            right = (logits.argmax(dim=-1) == targets)[targets != IGNORED].float().mean()
        self._metrics["train"]["mean_token_accuracy"].append(right.item())
        return loss

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with warnings.catch_warnings():
            # PEFT, that it saves the whole embedding of a grown model: right for going on.
            warnings.filterwarnings("ignore", "Setting `save_embedding_layers`", UserWarning)
            super()._save_checkpoint(*args, **kwargs)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the stage writes its own report."""


class StageCallback(TrainerCallback):  # type: ignore[misc]
    """Sets the sampler's epoch, appends to ``log.jsonl``, marks checkpoints that are whole."""

    def __init__(self, log: Path, sampler: GroupedSampler | None) -> None:
        self._log = log
        self._sampler = sampler

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._sampler is not None:
            self._sampler.set_epoch(int(state.epoch or 0))

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **kwargs: Any
    ) -> None:
        if state.is_world_process_zero and "loss" in logs:
            line = {"step": state.global_step, **{k: logs[k] for k in LOGGED if k in logs}}
            with self._log.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # The trainer calls this when weights, optimizer, schedule and random state are written.
        if state.is_world_process_zero:
            mark_whole(Path(args.output_dir), state.global_step)


def mean_loss(log: Path, last: int) -> float | None:
    """Mean loss of the last so many lines of the log; ``None`` without any."""
    if not log.is_file():
        return None
    losses = [json.loads(line)["loss"] for line in log.read_text(encoding="utf-8").splitlines()]
    tail = [loss for loss in losses[-last:] if math.isfinite(loss)]
    return sum(tail) / len(tail) if tail else None
