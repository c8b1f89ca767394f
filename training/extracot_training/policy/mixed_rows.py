"""Rows that stage ``mix`` makes and stage ``sft`` trains on: token ids, ready for the model."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from extracot_training.pipeline.records import Count, NonEmpty, Ratio, Record

Kind = Literal["level", "native", "policy"]
Ids = Annotated[list[Count], Field(min_length=1)]


class MixedRow(Record):
    """A prompt and the reply to learn.

    ``level`` is the reply's level (``None`` for native rows). ``reasoning_tokens`` counts the think
    text of the reply, ``full_tokens`` that of the whole trace. ``copy_number`` tells apart policy
    rows of one trace that is used more than once.
    """

    problem_id: NonEmpty
    sample: Count
    kind: Kind
    level: Ratio | None
    copy_number: Count = 0
    prompt_ids: Ids
    reply_ids: Ids
    reasoning_tokens: Count
    full_tokens: Count

    @model_validator(mode="after")
    def _level_fits(self) -> Self:
        if (self.level is None) != (self.kind == "native"):
            wanted = "none" if self.kind == "native" else "its level"
            raise ValueError(f"level: a {self.kind} row wants {wanted}")
        return self

    @property
    def key(self) -> str:
        """``problem_id/sample@0.4``, ``…@native``, ``…@policy-0``."""
        if self.kind == "level":
            return f"{self.problem_id}/{self.sample}@{self.level:g}"
        number = f"-{self.copy_number}" if self.kind == "policy" else ""
        return f"{self.problem_id}/{self.sample}@{self.kind}{number}"

    @property
    def length(self) -> int:
        """Tokens of prompt and reply."""
        return len(self.prompt_ids) + len(self.reply_ids)

    @property
    def realised(self) -> float | None:
        """Share of the whole trace's tokens; ``None`` for an empty trace."""
        return self.reasoning_tokens / self.full_tokens if self.full_tokens else None
