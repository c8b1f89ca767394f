"""One level of a budget card: what keeps a reply to it, and what was measured of it.

Knows nothing of the card around it, of files or of tokenizers; see :mod:`extracot.card`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from extracot.errors import CardError
from extracot.figures import AccuracySummary, CardModel, Count, RatioSummary, Share, wrong

Word = Annotated[str, StringConstraints(pattern=r"^\S+$")]


class LevelCard(CardModel):
    """One level, or the policy (``ratio`` is then ``None``). ``n`` counts problems.

    ``enforced_by`` says what keeps a reply to it: a trained control token, an effort that the chat
    template takes, or a cap of ``ratio`` x the baseline's mean (or of ``max_reasoning_tokens``).
    ``dominated_by`` names what was measured to be cheaper and more accurate: another level, or
    ``none``.
    """

    name: Annotated[str, StringConstraints(min_length=1)]
    enforced_by: Literal["token", "effort", "cap"] = "token"
    token: Word | None = None
    token_id: Count | None = None
    effort: Word | None = None
    max_reasoning_tokens: Annotated[int, Field(ge=1)] | None = None
    ratio: Annotated[float, Field(gt=0, le=1)] | None = None
    realised: RatioSummary | None = None
    accuracy: AccuracySummary | None = None
    unclosed_rate: Share | None = None
    n: Count | None = None
    dataset: str | None = None
    dominated_by: str | None = None

    @model_validator(mode="after")
    def _enforceable(self) -> Self:
        by = self.enforced_by
        wants = {"token": ("token", "token_id"), "effort": ("effort",), "cap": ()}[by]
        allowed = (*wants, *(() if by == "token" else ("max_reasoning_tokens",)))
        for field in ("token", "token_id", "effort", "max_reasoning_tokens"):
            given = getattr(self, field) is not None
            if field in wants and not given:
                raise wrong(field, f"required for a level that is enforced by {by}")
            if given and field not in allowed:
                raise wrong(field, f"must be null for a level that is enforced by {by}")
        if by == "cap" and self.ratio is None and self.max_reasoning_tokens is None:
            raise wrong("ratio", "a cap needs one, or max_reasoning_tokens")
        if by != "token" and self.realised is None:
            raise wrong("realised", "required for a level without a token")
        return self

    def control(self) -> tuple[str, int]:
        """The control token and its id; raises :class:`CardError` for a level without one."""
        if self.token is None or self.token_id is None:
            raise CardError(f"level {self.name} has no control token", field="levels")
        return self.token, self.token_id

    @property
    def expected_ratio(self) -> float:
        """The realised ratio; the nominal one where none was measured."""
        return self.realised.mean if self.realised is not None else self.ratio or 0.0
