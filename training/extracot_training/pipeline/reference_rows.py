"""The row of stage ``reference``: how a model does on a problem at every level, and what it needs.

Whoever wants r* alone reads :class:`RStarRow`, which lets the other fields be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from extracot_training.pipeline.r_star import needed_level, reference_length
from extracot_training.pipeline.records import Count, NonEmpty, Ratio, Record, Split, read_rows


class LevelAttempt(BaseModel):
    """One rollout. ``boxed`` is the answer's boxed text; ``tokens`` counts reasoning, all of it if
    the block was never ``closed``; ``total`` counts everything generated."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    correct: bool
    closed: bool
    boxed: str | None
    tokens: Count
    total: Count


class LevelAttempts(BaseModel):
    """The k rollouts of one level."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

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
    :func:`extracot_training.pipeline.r_star.needed_level` says."""

    problem_id: NonEmpty
    r_star: Ratio
    unanimous: bool = True

    @property
    def key(self) -> str:
        return self.problem_id


class ReferenceRow(RStarRow, extra="forbid"):
    """One problem: its attempts by ascending level, and what follows from them.

    ``l_ref`` is :func:`extracot_training.pipeline.r_star.reference_length`'s, of the highest level.
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
