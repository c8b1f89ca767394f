"""TRL's trainer over rows in an order by seed and epoch, with a loss of replies alone where that is
faster. Knows no configuration.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from trl import SFTTrainer

from extracot_training.pipeline.checkpoints import log_lines
from extracot_training.policy.reply_loss import IGNORED, reply_loss
from extracot_training.policy.trainer import PolicyTrainer
from extracot_training.stages.sft.rows import GroupedSampler


class BudgetSftTrainer(PolicyTrainer, SFTTrainer):  # type: ignore[misc]
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

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self._sampler or super()._get_train_sampler(train_dataset)

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


class EpochOrder(TrainerCallback):  # type: ignore[misc]
    """Tells the sampler which epoch begins."""

    def __init__(self, sampler: GroupedSampler | None) -> None:
        self._sampler = sampler

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._sampler is not None:
            self._sampler.set_epoch(int(state.epoch or 0))


def mean_loss(log: Path, last: int) -> float | None:
    """Mean loss of the last so many lines of the log; ``None`` without any."""
    losses = [line["loss"] for line in log_lines(log)[-last:]]
    finite = [loss for loss in losses if math.isfinite(loss)]
    return sum(finite) / len(finite) if finite else None
