"""What a compressor of steps learns from: generated traces with gold labels, and marked ones.

Other steps that say the same as a needed one are not judged: either may stay, and the one first
said is asked for. Knows labels and tensors, no network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field, ValidationError
from torch import Tensor

from extracot_training.compression.encoding import IGNORED, token_labels
from extracot_training.compression.step_labels import META_KEY, StepLabels
from extracot_training.compression.step_scoring import EncodedSteps, Item, StepEncoder
from extracot_training.compression.steps import steps
from extracot_training.config.compressor import CompressorConfig
from extracot_training.errors import StageError
from extracot_training.evaluation.marks import read_marked
from extracot_training.pipeline.records import TraceText, first_problem, read_rows
from extracot_training.stages.compressor.splitting import held_out

# Atoms of a needed step that weigh at least this are to be kept when it is thinned.
KEPT_WEIGHT = 0.5


class LabelledTrace(TraceText, extra="ignore"):
    """A row of stage teach or annotate whose ``meta`` holds the labels of its steps."""

    meta: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source:
    """A trace before it is encoded. ``needed`` and ``revoked`` are 0, 1 or -100 by step; ``keep``
    and ``within`` are character spans: atoms to keep, and the steps whose atoms are labelled."""

    name: str
    item: Item
    needed: tuple[int, ...]
    revoked: tuple[int, ...]
    keep: tuple[tuple[int, int], ...]
    within: tuple[tuple[int, int], ...]
    marked: bool


@dataclass(frozen=True, slots=True)
class StepExample:
    """Ready for the network: labels of steps (steps, 2) and of tokens (tokens), -100 for none."""

    encoded: EncodedSteps
    steps: Tensor
    tokens: Tensor
    marked: bool


def sources(config: CompressorConfig) -> tuple[list[Source], list[Source]]:
    """Training and held-out traces; a problem's samples all fall on one side."""
    train: list[Source] = []
    held: list[Source] = []
    for source in [*_labelled(config), *_marked(config)]:
        (held if held_out(source.name, config.dev_share) else train).append(source)
    if not train or not held:
        raise StageError(
            f"{config.input}: {len(train)} training and {len(held)} held-out traces; want both, so "
            "give more problems"
        )
    return train, held


def examples(found: Sequence[Source], encoder: StepEncoder) -> list[StepExample]:
    """Encodes the traces. Those without steps are left out."""
    encoded = [encoder.encode([source.item])[0] for source in found]
    return [
        _example(source, one) for source, one in zip(found, encoded, strict=True) if source.needed
    ]


def _example(source: Source, encoded: EncodedSteps) -> StepExample:
    keep = token_labels(encoded.spans, source.keep)
    within = token_labels(encoded.spans, source.within)
    tokens = [label if inside else IGNORED for label, inside in zip(keep, within, strict=True)]
    steps = torch.tensor([source.needed, source.revoked]).T
    return StepExample(encoded, steps, torch.tensor(tokens, dtype=torch.long), source.marked)


def _labelled(config: CompressorConfig) -> Iterator[Source]:
    for number, row in enumerate(read_rows(config.input, LabelledTrace), start=1):
        if META_KEY not in row.meta:
            raise StageError(
                f"{config.input}: row {number}: meta has no {META_KEY}; strategy steps learns from "
                "labelled traces"
            )
        try:
            labels = StepLabels.model_validate(row.meta[META_KEY])
            labels.check(row.reasoning)
        except ValidationError as error:
            field, message = first_problem(error)
            raise StageError(
                f"{config.input}: row {number}: {META_KEY}: field {field!r}: {message}"
            ) from error
        except ValueError as error:
            raise StageError(f"{config.input}: row {number}: {META_KEY}: {error}") from error
        yield _from_labels(row, labels)


def _from_labels(row: LabelledTrace, labels: StepLabels) -> Source:
    count = len(labels.steps)
    needed = labels.needed()
    entries = [tuple(labels.alternatives(index)) for index in needed]
    first = [min(entry, key=lambda i: (i not in needed, i)) for entry in entries]
    revoked = [i for i, step in enumerate(labels.steps) if step.role == "revoked"]
    keep = tuple((a.start, a.end) for a in labels.atoms if a.weight >= KEPT_WEIGHT)
    within = tuple((labels.steps[i].start, labels.steps[i].end) for i in needed)
    return Source(
        row.problem_id, (row.question, row.reasoning, row.gold),
        _needed(count, first, entries), _flags(count, revoked), keep, within, marked=False,
    )  # fmt: skip


def _marked(config: CompressorConfig) -> Iterator[Source]:
    for files in config.marked:
        for trace, marks in read_marked(files.traces, files.marks):
            count = len(steps(trace.thinking))
            first = [min(entry) for entry in marks.needed]
            yield Source(
                trace.id, (trace.question, trace.thinking, trace.answer),
                _needed(count, first, marks.needed), _flags(count, marks.revoked), (), (),
                marked=True,
            )  # fmt: skip


def _needed(count: int, first: Sequence[int], entries: Sequence[Sequence[int]]) -> tuple[int, ...]:
    flags = [0] * count
    for entry in entries:
        for step in entry:
            flags[step] = IGNORED
    for step in first:
        flags[step] = 1
    return tuple(flags)


def _flags(count: int, chosen: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(step in chosen) for step in range(count))
