"""The row of stage ``reference``: how a model does on a problem at every level, and what it needs.

What it needs is its teacher budget ``r*``, its reference length ``L_ref`` and the tokens that its
answer needs, from k rollouts per level of the model before the policy is trained; policy rows of
the mixture and the rewards of CHRPO are made from them. r* is there twice: *unanimous*, of the
problem's own replies, and *estimated* together with all other problems
(:mod:`extracot_training.pipeline.needs`); rows of earlier versions have the first alone.

Whoever wants r* alone reads :class:`RStarRow`, which lets the other fields be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, Field, model_validator

from extracot_training.pipeline.metering import answer_need, metered_tokens
from extracot_training.pipeline.needs import estimate_needs
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


Which = Literal["estimated", "unanimous"]


class NeedEstimate(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """r* estimated: ``level``, with the probability of each level (ascending) to be r*, and the
    accuracies it was read from; ``solved`` says that some reply at some level was right."""

    level: Ratio
    probabilities: Annotated[list[float], Field(min_length=1)]
    accuracies: Annotated[list[float], Field(min_length=1)]
    solved: bool


class RStarRow(Record, extra="ignore"):
    """What one problem needs: ``r_star`` and ``unanimous`` as
    :func:`needed_level` says; ``estimate``, where there is one, as
    :func:`~extracot_training.pipeline.needs.estimate_needs` does."""

    problem_id: NonEmpty
    r_star: Ratio
    unanimous: bool = True
    estimate: NeedEstimate | None = None

    @property
    def key(self) -> str:
        return self.problem_id

    def needed(self, which: Which) -> float:
        """r*: the unanimous one where no other was estimated."""
        if which == "unanimous" or self.estimate is None:
            return self.r_star
        return self.estimate.level

    def solved(self, which: Which) -> bool:
        """Whether some level solves the problem: always, in every reply, or (estimated) once."""
        if which == "unanimous" or self.estimate is None:
            return self.unanimous
        return self.estimate.solved


class ReferenceRow(RStarRow, extra="forbid"):
    """One problem: its attempts by ascending level, and what follows from them.

    ``l_ref`` is :func:`reference_length`'s, of the highest level, in the measure of
    :mod:`extracot_training.pipeline.metering`; ``answer_need`` its allowance for the answer.
    ``asked`` is the problem's.
    """

    question: NonEmpty
    gold: NonEmpty
    split: Split
    family: str | None = None
    steps: Count | None = None
    asked: Count | None = None
    levels: Annotated[list[LevelAttempts], Field(min_length=1)]
    unanimous: bool
    l_ref: float | None
    answer_need: Annotated[float, Field(ge=0)] | None = None

    @property
    def need(self) -> float:
        """Tokens that the answer needs. Rows of earlier versions do not say it: then it is made of
        their attempts as it is now; 0 where no attempt was closed."""
        if self.answer_need is not None:
            return self.answer_need
        return needed_answer(self.levels) or 0.0

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
        need, last = needed_answer(levels), levels[-1].attempts
        lengths = [metered_tokens(one.tokens, one.total, need or 0.0) for one in last]
        return cls.model_validate(
            {
                **problem,
                "levels": levels,
                "r_star": needed.level,
                "unanimous": needed.unanimous,
                "l_ref": reference_length(lengths, [a.closed for a in last]),
                "answer_need": need,
            }
        )


def read_r_star(folder: Path, which: Which = "estimated") -> dict[str, float]:
    """``problem_id -> r*``. Raises :class:`~extracot_training.errors.RowError` naming the field."""
    return {row.problem_id: row.needed(which) for row in read_rows(folder, RStarRow)}


def with_estimates(rows: Sequence[ReferenceRow], *, delta: float) -> list[ReferenceRow]:
    """The rows with r* estimated from all of them together; all have the same levels."""
    if not rows:
        return []
    levels = [one.level for one in rows[0].levels]
    right = [[sum(a.correct for a in one.attempts) for one in row.levels] for row in rows]
    tried = [[len(one.attempts) for one in row.levels] for row in rows]
    needs = estimate_needs(levels, right, tried, delta=delta)
    return [
        row.model_copy(
            update={
                "estimate": NeedEstimate(
                    level=need.level,
                    probabilities=[round(one, 4) for one in need.probabilities],
                    accuracies=[round(one, 4) for one in need.accuracies],
                    solved=any(own),
                )
            }
        )
        for row, need, own in zip(rows, needs, right, strict=True)
    ]


def needed_answer(levels: Sequence[LevelAttempts]) -> float | None:
    """Tokens outside the block that the problem's answer needs: the median of the highest level's
    right replies; where none was right, of its closed ones, then of those of all levels; ``None``
    where no reply was closed."""
    every = [a for one in levels for a in one.attempts if a.closed]
    last = [a for a in levels[-1].attempts if a.closed]
    for some in ([a for a in last if a.correct], last, every):
        if some:
            return answer_need([a.total - a.tokens for a in some])
    return None


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


def reference_length(tokens: Sequence[float], closed: Sequence[bool]) -> float | None:
    """L_ref: mean length in tokens of the level-1.0 samples whose think block was closed.

    ``None`` if none was closed, or none of those reasoned at all: there is nothing to measure by.
    Raises ``ValueError`` if the lengths differ.

    >>> reference_length([100, 140, 4096], [True, True, False])
    120.0
    """
    lengths = [count for count, whole in zip(tokens, closed, strict=True) if whole]
    return sum(lengths) / len(lengths) if sum(lengths) > 0 else None
