"""Settings of stage ``chrpo``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from extracot_training.config.objective import Objective
from extracot_training.config.simulation import SimulationSettings
from extracot_training.pipeline.records import Split
from extracot_training.pipeline.settings import Section
from extracot_training.policy.training_settings import TrainingSettings


class ChrpoRollouts(Section):
    """How replies are sampled while training."""

    backend: Literal["generate", "trl"] = Field(
        "generate",
        description="generate: our sampler in this process; trl: TRL's own, vLLM included",
    )
    temperature: float = Field(1.0, gt=0, description="of rollouts, and of the loss")
    max_tokens: int = Field(1024, ge=8, description="longest reply; a longer one is invalid")
    batch: int = Field(256, ge=1, description="rows generated at a time (backend generate)")


class ReplaySettings(Section):
    """Rows of fine-tuning learned beside the rollouts, so that levels nobody chooses stay good."""

    rows: Path = Field(description="folder of stage mix; its level and native rows are used")
    weight: float = Field(0.2, gt=0, description="of their mean loss per token, beside the rest")
    batch: int = Field(16, ge=1, description="rows per update and process")
    policy_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of the level rows shown under the policy token, without loss on the "
        "level; null: 0.5 with stratified groups, else 0",
    )


class DevSettings(Section):
    """Rollouts on held-out problems, at the start, during training and at the end."""

    every: int = Field(20, ge=0, description="steps between evaluations; 0: start and end only")
    problems: int | None = Field(None, ge=1, description="first problems only")
    samples: int = Field(1, ge=1, description="replies per problem")
    temperature: float = Field(1.0, ge=0, description="0 is greedy")


class RefreshSettings(Section):
    """What stage reference measured, kept up with the model by the stratified rollouts."""

    every: int = Field(20, ge=0, description="steps between new estimates; 0: never")
    weight: float = Field(
        4.0, gt=0, description="of what stage reference measured, in rollouts at a level"
    )


class ChrpoConfig(TrainingSettings):
    """Trains the choice of a level with CHRPO, from the model of stage ``sft``. The folder is then
    a Hugging Face model folder with ``renderer.json``; a cut run goes on from its last whole
    checkpoint and ends as an uncut one does."""

    runtime: ClassVar[frozenset[str]] = TrainingSettings.runtime | {"dev", "simulation"}

    input: Path = Field(description="folder of stage reference (training problems)")
    dev: Path | None = Field(None, description="same for held-out problems; null: `input`")
    split: Split = Field("train", description="problems to train on")
    dev_split: Split = Field("dev", description="problems to evaluate on")
    unsolved: bool = Field(True, description="train on problems that no level solves")
    needed: Literal["estimated", "unanimous"] = Field(
        "estimated", description="which r* of stage reference (rows without: unanimous)"
    )
    delta: float = Field(0.05, ge=0, lt=1, description="accuracy below the best that r* may have")
    model: str = Field(description="folder of stage sft")
    seed: int = Field(0, description="seed of the order of problems and of every rollout")
    objective: Objective = Objective()
    rollouts: ChrpoRollouts = ChrpoRollouts()
    replay: ReplaySettings | None = Field(None, description="null: rollouts alone")
    evaluation: DevSettings = DevSettings()
    steps: int = Field(200, ge=1, description="rounds of rollouts, each with one update or more")
    prompts: int = Field(16, ge=1, description="problems per step and process")
    group: int = Field(10, ge=2, description="rollouts per problem")
    groups: Literal["stratified", "chosen"] | None = Field(
        None,
        description="stratified: every level forced in turn; chosen: the policy draws them; null: "
        "stratified for kind chrpo",
    )
    refresh: RefreshSettings = RefreshSettings()
    simulation: SimulationSettings = SimulationSettings()
    given_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the problems whose level is forced, each in turn, instead of chosen: "
        "practice for the levels that users name",
    )
    iterations: int = Field(1, ge=1, description="updates per round of rollouts")
    micro_batch: int | None = Field(None, ge=1, description="rows per pass; null: all at once")
    learning_rate: float = Field(1e-6, gt=0)
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "constant_with_warmup"
    weight_decay: float = Field(0.0, ge=0)
    kl: float = Field(0.0, ge=0, description="weight of the divergence from the SFT model")
    clip: float = Field(0.2, gt=0, description="clipping of probability ratios")
    checkpoint_every: int = Field(50, ge=0, description="steps between checkpoints; 0: none")
    trainer: dict[str, Any] = Field(
        default_factory=dict,
        description="further arguments of TRL's GRPOConfig, such as {use_vllm: true}",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        rows = self.prompts * self.group
        if rows % (self.micro_batch or rows):
            raise ValueError(f"micro_batch: want a divisor of prompts x group, which is {rows}")
        if self.given_share and not self.objective.own:
            raise ValueError(
                "given_share: want 0 unless objective.kind is chrpo or chrpo_capped, whose reward "
                "alone follows a level that is named"
            )
        if self.groups == "stratified" and not self.objective.own:
            raise ValueError(
                "groups: want chosen unless objective.kind is chrpo or chrpo_capped; the other "
                "methods draw levels by the policy"
            )
        if self.objective.kind == "chrpo" and not self.stratified and self.objective.price_rate:
            raise ValueError(
                "objective.price_rate: want 0 with groups chosen: accuracy at level 1.0 is not "
                "measured there"
            )
        if 0 < self.given_share * self.steps * self.prompts < 1:
            raise ValueError("given_share: too small for any of steps x prompts")
        return self

    @property
    def stratified(self) -> bool:
        """Whether every group has replies at every level."""
        return (self.groups or ("stratified" if self.objective.kind == "chrpo" else "chosen")) == (
            "stratified"
        )
