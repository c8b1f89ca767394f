"""TRL's trainer over mixed rows, in an order by seed and epoch, with a loss of replies alone where
that is faster. Knows no configuration.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import torch
from transformers import TrainerCallback
from trl import SFTTrainer

from extracot_training.policy.mixed_rows import MixedRow
from extracot_training.policy.reply_loss import IGNORED, reply_loss
from extracot_training.policy.trainer import PolicyTrainer

# How many batches are sorted by length together: more would save little and mix less.
POOL = 50


def as_dataset(rows: Sequence[MixedRow]) -> Any:
    """A ``datasets.Dataset``: ``input_ids``, and ``completion_mask``, 1 where loss is computed."""
    from datasets import Dataset

    return Dataset.from_dict(
        {
            "input_ids": [row.prompt_ids + row.reply_ids for row in rows],
            "completion_mask": [
                [0] * len(row.prompt_ids) + [1] * len(row.reply_ids) for row in rows
            ],
        }
    )


class GroupedSampler(torch.utils.data.Sampler[int]):
    """Indices in an order that is a function of ``seed`` and :attr:`epoch` alone.

    Runs of ``group`` indices (a batch on every device) have like lengths if ``by_length``, and
    come in random order; the one short run is the last, so that runs and batches stay aligned.
    An order that depends on nothing else is what lets a cut run go on exactly.
    """

    def __init__(
        self, lengths: Sequence[int], group: int, *, seed: int, by_length: bool = True
    ) -> None:
        self._lengths = lengths
        self._group = group
        self._seed = seed
        self._by_length = by_length
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        random = Random(f"{self._seed} {self.epoch}")
        order = list(range(len(self._lengths)))
        random.shuffle(order)
        if not self._by_length:
            yield from order
            return
        pool = self._group * POOL
        groups = []
        for begin in range(0, len(order), pool):
            part = sorted(order[begin : begin + pool], key=lambda i: -self._lengths[i])
            groups += [part[at : at + self._group] for at in range(0, len(part), self._group)]
        short = groups.pop() if len(groups[-1]) < self._group else []
        random.shuffle(groups)
        for group in [*groups, short]:
            yield from group


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
        """Mean negative log-likelihood per reply token, and a router's loss where TRL would add it;
        ``inputs`` are (rows, length) tensors."""
        if not self._plain_loss or return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        inputs = dict(inputs)
        labels = inputs.pop("labels")
        total, logits, targets, balance = reply_loss(model, inputs, labels)
        if num_items_in_batch is None:
            loss = total / (labels != IGNORED).sum().clamp(min=1)
        else:
            loss = total / num_items_in_batch
            if self.args.average_tokens_across_devices:  # that count is of all devices' tokens
                loss = loss * self.accelerator.num_processes
        if self.aux_loss_enabled and balance is not None:  # a mean per pass, as TRL has it
            passes = 1 if num_items_in_batch is None else self.current_gradient_accumulation_steps
            loss = loss + self.router_aux_loss_coef * balance / passes
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
