"""The measured figures that a budget card holds, and the border's common model.

Knows nothing of files, levels or tokenizers; see :mod:`extracot.card`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]


class CardModel(BaseModel):
    """Unknown keys are kept, so that an older reader does not lose what a newer writer said."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)


def wrong(field: str, why: str) -> PydanticCustomError:
    """An error of several fields together, put down to the one at fault.

    ``field`` is relative to the model that is being validated, which pydantic cannot say itself.
    """
    return PydanticCustomError("card", "{field}: {why}", {"field": field, "why": why})


class RatioSummary(CardModel):
    """Realised ratios of a level: ``mean`` is the ratio of sums, p10 and p90 are per problem."""

    mean: Annotated[float, Field(gt=0)]
    p10: Amount
    p90: Amount

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.p10 > self.p90:
            raise wrong("p90", "must not be below p10")
        return self


class AccuracySummary(CardModel):
    """Share of right answers, with its interval."""

    mean: Share
    low: Share
    high: Share

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        # An interval computed for "all right" may end a rounding error below 1.
        if not self.low - 1e-6 <= self.mean <= self.high + 1e-6:
            raise wrong("mean", "must be between low and high")
        return self


class TokenSummary(CardModel):
    """A distribution of token counts."""

    mean: Amount
    p50: Amount
    p90: Amount

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.p50 > self.p90:
            raise wrong("p90", "must not be below p50")
        return self


def level_cap(ratio: float, mean: float) -> int:
    """The cap of a level that is enforced by one, in tokens: the ratio of the baseline's mean."""
    return max(1, round(ratio * mean))


class ReplySummary(CardModel):
    """Replies of one kind: their reasoning, how many were right, and how many reasoned at all."""

    n: Count
    reasoning: TokenSummary
    accuracy: AccuracySummary | None = None
    reasoned: Share


class BaselineBin(CardModel):
    """Tokens spent on prompts up to ``max_prompt_tokens`` long; ``None``: however long."""

    max_prompt_tokens: Annotated[int, Field(gt=0)] | None = None
    n: Count
    reasoning: TokenSummary
    answer: TokenSummary


class BaselineCard(CardModel):
    """Tokens of a reply without a budget (``native``) and at level 1.0 (``full``)."""

    native: list[BaselineBin] = Field(default_factory=list)
    full: list[BaselineBin] = Field(default_factory=list)

    @field_validator("native", "full")
    @classmethod
    def _ascending(cls, bins: list[BaselineBin]) -> list[BaselineBin]:
        limits = [float("inf") if (n := b.max_prompt_tokens) is None else n for b in bins]
        for index, (low, high) in enumerate(pairwise(limits), start=1):
            if low >= high:
                why = "must ascend from bin to bin, null (no limit) only in the last"
                raise wrong(f"[{index}].max_prompt_tokens", why)
        return bins

    def native_for(self, prompt_tokens: int) -> BaselineBin | None:
        """The bin of native replies for a prompt this long; ``None`` if no bin covers it."""
        limits = ((entry, entry.max_prompt_tokens) for entry in self.native)
        return next((entry for entry, n in limits if n is None or prompt_tokens <= n), None)
