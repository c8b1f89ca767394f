"""From mixed rows to what the trainer takes, and the order in which it takes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import torch

from extracot_training.control_tokens import ControlTokens
from extracot_training.errors import StageError
from extracot_training.mixed_rows import MixedRow
from extracot_training.prompt_settings import PromptSettings

# How many batches are sorted by length together: more would save little and mix less.
POOL = 50


def check_rows(
    rows: Sequence[MixedRow], prompt: PromptSettings, tokens: ControlTokens, vocabulary: int
) -> None:
    """Raise :class:`StageError` unless every row fits the tokenizer.

    Ids lie below ``vocabulary``, and a level's or policy row's reply begins with its level token.
    """
    first = dict(zip(prompt.ratios, tokens.levels, strict=True))
    for row in rows:
        largest = max(max(row.prompt_ids), max(row.reply_ids))
        if largest >= vocabulary:
            raise StageError(f"row {row.key}: id {largest}, but the model has {vocabulary} tokens")
        if row.level is not None and row.level not in first:
            raise StageError(f"row {row.key}: level {row.level:g} is not in renderer.json")
        if row.level is not None and row.reply_ids[0] != first[row.level]:
            raise StageError(
                f"row {row.key}: its reply begins with id {row.reply_ids[0]}, "
                f"not with level {row.level:g}'s {first[row.level]}"
            )


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
