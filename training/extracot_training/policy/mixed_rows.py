"""Rows that stage ``mix`` makes and stage ``sft`` trains on: token ids, ready for the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from extracot_training.errors import StageError
from extracot_training.pipeline.records import Count, NonEmpty, Ratio, Record
from extracot_training.policy.control_tokens import ControlTokens
from extracot_training.policy.prompt_settings import PromptSettings

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
