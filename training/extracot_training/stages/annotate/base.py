"""The annotator interface: from a question and a trace to the atoms to keep.

Four exist (``rules``, ``likelihood``, ``gold``, ``llm``); the stage and the agreement report see
only this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, field
from operator import add
from typing import Protocol

from extracot_training.compression.segment import Atom
from extracot_training.errors import TrainingError
from extracot_training.pipeline.records import Trace


class AnnotatorError(TrainingError):
    """An annotator can't go on (a dead endpoint, a reader that won't load)."""


@dataclass(frozen=True, slots=True)
class Job:
    """One trace to annotate, cut into atoms."""

    trace: Trace
    atoms: Sequence[Atom]


@dataclass(frozen=True, slots=True)
class Usage:
    """What labels cost: calls made, tokens in and out, money; ``cached`` calls were not made."""

    calls: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*map(add, astuple(self), astuple(other)))


@dataclass(frozen=True, slots=True)
class KeepLabels:
    """Indices of the atoms to keep (sorted), one score per atom where the annotator has them."""

    keep: tuple[int, ...]
    scores: tuple[float, ...] | None = None
    usage: Usage = field(default_factory=Usage)


class Annotator(Protocol):
    """Judges traces one after the other or many at a time, but yields in the order given."""

    @property
    def name(self) -> str:
        """What to call it in rows: kind, model and version of its rules or prompt."""
        ...

    def annotate(self, jobs: Sequence[Job]) -> Iterator[KeepLabels]:
        """The labels of each job, in order. Raises :class:`AnnotatorError`."""
        ...
