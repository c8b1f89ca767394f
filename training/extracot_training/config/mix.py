"""Settings of stage ``mix``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from extracot_training.pipeline.settings import Section, Seed, SplitNames, StageConfig
from extracot_training.policy.prompt_settings import PromptSettings

Share = Annotated[float, Field(ge=0.0, le=1.0)]
PAPER_PROPORTIONS = (0.18, 0.24, 0.26, 0.22, 0.10)


class PolicySettings(Section):
    """Rows in which the model picks its level. With a ``reference`` folder a problem's level is its
    measured r*; without one, levels are apportioned by ``proportions``."""

    share: float = Field(
        0.0, ge=0.0, description="policy rows per fixed row (the paper's 10k to 60k are 0.167)"
    )
    proportions: tuple[Share, ...] = Field(
        PAPER_PROPORTIONS, description="share of each level, in the order of prompt.ratios"
    )
    needed: Literal["estimated", "unanimous"] = Field(
        "estimated", description="with reference: which r* (rows without an estimate: unanimous)"
    )
    unsolved: bool = Field(True, description="with reference: use problems that no level solves")


class FitSettings(Section):
    """Which rows of a level below 1.0 are left out because their reasoning does not fit it."""

    within: float | None = Field(
        0.1, gt=0, le=1, description="whose realised ratio is further from the level; null: none"
    )
    equations: bool = Field(
        True, description="that lack the result of an equation which the answer is computed from"
    )


class NativeTraces(Section):
    """More whole traces for native rows, of other problems than those that were compressed."""

    traces: Path = Field(description="folder of stage teach")
    limit: int | None = Field(
        None, ge=1, description="so many of them, drawn by the stage's seed; null: all"
    )


class MixConfig(StageConfig):
    """Renders compressed traces to token ids: rows of every level, native ones, policy ones."""

    makes_rows: ClassVar[bool] = True
    runtime: ClassVar[frozenset[str]] = frozenset(
        {"compressed", "traces", "reference", "problems", "out"}
    )

    compressed: Path | None = Field(
        None, description="folder of stage compress; null: native rows of whole traces only"
    )
    traces: Path | None = Field(
        None, description="folder of stage teach, for level 1.0 and native; null: from `compressed`"
    )
    reference: Path | None = Field(None, description="folder of stage reference, for policy rows")
    problems: Path | None = Field(
        None, description="folder of stage problems, for rows that don't say their split"
    )
    splits: SplitNames = Field(("train",), description="whose problems")
    model: str = Field(description="whose tokenizer: folder, hub name or bundled: name")
    prompt: PromptSettings = Field(default_factory=PromptSettings, description="how to render")
    level_shares: tuple[Share, ...] | None = Field(
        None, description="share of traces used at each level, in order; null: all at every level"
    )
    native_share: Share = Field(0.5, description="share of level 1.0's rows without any token")
    further_native: int = Field(
        0, ge=0, description="so many more native rows, of `traces` that were not compressed"
    )
    also: tuple[NativeTraces, ...] = Field(
        (),
        description="further folders whose whole traces are native rows, too: [{traces: folder}]",
    )
    policy: PolicySettings = PolicySettings()
    fit: FitSettings | None = Field(
        None, description="leave out rows that do not fit their level; null: take all"
    )
    cutoff: int = Field(6144, ge=16, description="a row with more tokens is left out, never cut")
    limit: int | None = Field(None, ge=1, description="first traces only")
    seed: Seed = Field(0, description="who gets which level, and the order of rows")

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        levels = len(self.prompt.ratios)
        if self.prompt.ratios[-1] != 1.0:
            raise ValueError("prompt.ratios: want 1.0 as the last; the others are measured by it")
        if self.compressed is None and (self.traces is None or self.policy.share):
            raise ValueError("compressed: without it want `traces`, and no policy.share")
        if self.further_native and self.traces is None:
            raise ValueError("further_native: wants `traces`")
        if self.level_shares is not None and len(self.level_shares) != levels:
            raise ValueError(f"level_shares: want {levels}, one per prompt.ratios")
        if self.level_shares is not None and not any(self.level_shares):
            raise ValueError("level_shares: want one above 0")
        if self.policy.share and not self.prompt.policy:
            raise ValueError("policy.share is positive, but prompt.policy is off")
        if self.policy.share and self.reference is None:
            proportions = self.policy.proportions
            if len(proportions) != levels or abs(sum(proportions) - 1.0) > 1e-6:
                raise ValueError(f"policy.proportions: want {levels} shares that add up to 1")
        return self
