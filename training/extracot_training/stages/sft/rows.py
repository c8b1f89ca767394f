"""From mixed rows to what the trainer takes, and the order in which it takes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import torch

from extracot_training.policy.mixed_rows import MixedRow

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
