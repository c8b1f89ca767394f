"""TRL's trainer over mixed rows, in an order by seed and epoch, with a loss of replies alone where
that is faster. Knows no configuration.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from random import Random
from typing import Any

import torch
from transformers import TrainerCallback
from trl import SFTTrainer

from extracot_training.policy.mixed_rows import MixedRow
from extracot_training.policy.reply_loss import reply_loss, separable
from extracot_training.policy.trainer import PolicyTrainer
from extracot_training.policy.training_settings import LARGE
from extracot_training.stages.sft.known_states import KnownStates

# Rows that are split into passes are padded to a multiple: few shapes, for each is prepared anew.
SHAPES = 16
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

    ``plain_loss``: cross-entropy on logits of the replies alone (:mod:`reply_loss`), instead of
    TRL's fused head. The fused one saves memory on a GPU; on a CPU it scores prompts and padding,
    too, and it reads the head's weights past PEFT's trained rows. ``pass_tokens``: a batch of more
    is learned from in several passes. ``known``, set by whoever freezes layers, has their states.
    """

    known: KnownStates | None = None

    def __init__(
        self,
        *args: Any,
        sampler: GroupedSampler | None,
        plain_loss: bool = False,
        pass_tokens: int | None = None,
        **kwargs: Any,
    ) -> None:
        self._sampler = sampler
        self._plain_loss = plain_loss
        self._pass_tokens = pass_tokens
        self._passes = 1
        super().__init__(*args, **kwargs)
        whole = plain_loss and not kwargs.get("peft_config")
        large = self.model.config.get_text_config().vocab_size >= LARGE
        self._head = separable(self.model) if whole and large else None

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self._sampler or super()._get_train_sampler(train_dataset)

    def training_step(
        self, model: Any, inputs: Any, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """As the base class's, in passes of ``pass_tokens``, whose losses add up."""
        if self._pass_tokens is None or num_items_in_batch is None:
            return super().training_step(model, inputs, num_items_in_batch)
        parts = list(split(inputs, self._pass_tokens))
        self._passes = len(parts)
        losses = [super(BudgetSftTrainer, self).training_step(model, part, num_items_in_batch)
                  for part in parts]  # fmt: skip
        return torch.stack(losses).sum()

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean negative log-likelihood per reply token, and a router's loss where TRL would add it;
        ``inputs`` are (rows, length) tensors."""
        with self.known.of(model, inputs) if self.known else nullcontext():
            if not self._plain_loss or return_outputs:
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            return self._reply_loss(model, dict(inputs), num_items_in_batch)

    def _reply_loss(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any) -> Any:
        labels = inputs.pop("labels")
        total, count, right, balance = reply_loss(model, inputs, labels, self._head)
        if num_items_in_batch is None:
            loss = total / max(count, 1)
        else:
            loss = total / num_items_in_batch
            if self.args.average_tokens_across_devices:  # that count is of all devices' tokens
                loss = loss * self.accelerator.num_processes
        if self.aux_loss_enabled and balance is not None:  # a mean per pass, as TRL has it
            passes = 1 if num_items_in_batch is None else self.current_gradient_accumulation_steps
            loss = loss + self.router_aux_loss_coef * balance / (passes * self._passes)
        self._metrics["train"]["mean_token_accuracy"].append(right.item() / max(count, 1))
        return loss

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        if self.known is not None:
            self.known.flush()
        with warnings.catch_warnings():
            # PEFT, that it saves the whole embedding of a grown model: right for going on.
            warnings.filterwarnings("ignore", "Setting `save_embedding_layers`", UserWarning)
            super()._save_checkpoint(*args, **kwargs)


def split(inputs: Mapping[str, Any], most: int) -> Iterator[dict[str, Any]]:
    """Parts of a batch (rows, length), padded on the right: longest rows first, each part of so
    many tokens at most with its padding, or of one row, and no wider than its longest row."""
    width = inputs["input_ids"].shape[1]
    lengths = inputs["attention_mask"].sum(dim=1).tolist()
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    while order:
        wide = min(width, -(-lengths[order[0]] // SHAPES) * SHAPES)
        count = max(1, most // max(1, wide))
        rows, order = order[:count], order[count:]
        yield {
            name: value[rows, :wide] if value.shape[:2] == (len(lengths), width) else value
            for name, value in inputs.items()
        }


class EpochOrder(TrainerCallback):  # type: ignore[misc]
    """Tells the sampler which epoch begins."""

    def __init__(self, sampler: GroupedSampler | None) -> None:
        self._sampler = sampler

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._sampler is not None:
            self._sampler.set_epoch(int(state.epoch or 0))
