"""The row of stage ``reference``: how a model does on a problem at every level, and what it needs.

What it needs is its teacher budget ``r*`` and its reference length ``L_ref``, both pure functions
of k rollouts per level of the model before the policy is trained; policy rows of the mixture and
the rewards of CHRPO are made from them.

Whoever wants r* alone reads :class:`RStarRow`, which lets the other fields be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple, Self

from pydantic import BaseModel, Field, model_validator

from extracot_training.pipeline.records import Count, NonEmpty, Ratio, Record, Split, read_rows


class LevelAttempt(BaseModel, extra="forbid", frozen=True):
    """One rollout. ``boxed`` is the answer's boxed text; ``tokens`` counts reasoning, all of it if
    the block was never ``closed``; ``total`` counts everything generated."""

    correct: bool
    closed: bool
    boxed: str | None
    tokens: Count
    total: Count


class LevelAttempts(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """The k rollouts of one level."""

    level: Ratio
    attempts: Annotated[list[LevelAttempt], Field(min_length=1)]

    @property
    def accuracy(self) -> float:
        return sum(one.correct for one in self.attempts) / len(self.attempts)

    @property
    def tokens(self) -> int:
        """Reasoning tokens of all attempts together."""
        return sum(one.tokens for one in self.attempts)


class RStarRow(Record, extra="ignore"):
    """What one problem needs: ``r_star`` and ``unanimous`` as
    :func:`needed_level` says."""

    problem_id: NonEmpty
    r_star: Ratio
    unanimous: bool = True

    @property
    def key(self) -> str:
        return self.problem_id


class ReferenceRow(RStarRow, extra="forbid"):
    """One problem: its attempts by ascending level, and what follows from them.

    ``l_ref`` is :func:`reference_length`'s, of the highest level.
    """

    question: NonEmpty
    gold: NonEmpty
    split: Split
    family: str | None = None
    steps: Count | None = None
    levels: Annotated[list[LevelAttempts], Field(min_length=1)]
    unanimous: bool
    l_ref: float | None

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        levels = [one.level for one in self.levels]
        if levels != sorted(set(levels)):
            raise ValueError(f"levels {levels}: want them increasing, none twice")
        return self

    @classmethod
    def measured(cls, levels: list[LevelAttempts], **problem: object) -> Self:
        """The row of a problem from its attempts; ``problem`` holds the other fields."""
        needed = needed_level({one.level: [a.correct for a in one.attempts] for one in levels})
        last = levels[-1].attempts
        return cls.model_validate(
            {
                **problem,
                "levels": levels,
                "r_star": needed.level,
                "unanimous": needed.unanimous,
                "l_ref": reference_length([a.tokens for a in last], [a.closed for a in last]),
            }
        )


def read_r_star(folder: Path) -> dict[str, float]:
    """``problem_id -> r*``. Raises :class:`~extracot_training.errors.RowError` naming the field."""
    return {row.problem_id: row.r_star for row in read_rows(folder, RStarRow)}


class Needed(NamedTuple):
    """``level`` is r*; ``unanimous`` is false where no level qualified and r* is the default."""

    level: float
    unanimous: bool


def needed_level(correct: Mapping[float, Sequence[bool]]) -> Needed:
    """The smallest level such that it and every higher level answered correctly in all k samples.

    ``correct`` maps each level to its samples' correctness. A lucky small level below a level
    that fails does not count. Where not even the highest level is unanimous, r* is the highest
    level by default. Raises ``ValueError`` without levels, or for a level without samples.

    Answering better never raises r*: turning one ``False`` into ``True`` leaves it or lowers it.

    >>> needed_level({0.2: [True, False], 0.6: [True, True], 1.0: [True, True]})
    Needed(level=0.6, unanimous=True)
    >>> needed_level({0.2: [True, True], 0.6: [True, False], 1.0: [True, True]})
    Needed(level=1.0, unanimous=True)
    >>> needed_level({0.2: [True], 1.0: [False]})
    Needed(level=1.0, unanimous=False)
    """
    levels = sorted(correct, reverse=True)
    if not levels or not all(correct[level] for level in levels):
        raise ValueError("want at least one level, and at least one sample of each")
    needed = None
    for level in levels:
        if not all(correct[level]):
            break
        needed = level
    return Needed(levels[0], False) if needed is None else Needed(needed, True)


def reference_length(tokens: Sequence[int], closed: Sequence[bool]) -> float | None:
    """L_ref: mean reasoning tokens of the level-1.0 samples whose think block was closed.

    ``None`` if none was closed, or none of those reasoned at all: there is nothing to measure by.
    Raises ``ValueError`` if the lengths differ.

    >>> reference_length([100, 140, 4096], [True, True, False])
    120.0
    """
    lengths = [count for count, whole in zip(tokens, closed, strict=True) if whole]
    return sum(lengths) / len(lengths) if sum(lengths) > 0 else None
