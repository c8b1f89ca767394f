"""Settings of stage ``chrpo``."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from extracot_training.config.objective import Objective
from extracot_training.config.simulation import SimulationSettings
from extracot_training.errors import ConfigError
from extracot_training.pipeline.records import Split
from extracot_training.pipeline.settings import Section, Seed
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
    redraws: int = Field(
        0,
        ge=0,
        description="how often at most a group without signal (all its replies earned the same) is "
        "drawn again, for another problem",
    )


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
    batch: int | None = Field(
        None, ge=1, description="rows at a time, fewer beside vLLM; null: rollouts.batch"
    )
    max_tokens: int | None = Field(
        None, ge=8, description="longest reply, a longer one is invalid; null: rollouts.max_tokens"
    )


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
    seed: Seed = Field(0, description="seed of the order of problems and of every rollout")
    objective: Objective = Objective()
    rollouts: ChrpoRollouts = ChrpoRollouts()
    replay: ReplaySettings | None = Field(None, description="null: rollouts alone")
    evaluation: DevSettings = DevSettings()
    steps: int = Field(200, ge=1, description="rounds of rollouts, each with one update or more")
    prompts: int = Field(
        16, ge=1, description="problems per step and process (with global_prompts: not used)"
    )
    global_prompts: int | None = Field(
        None,
        ge=1,
        description="problems per step of all processes together, however many these are",
    )
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
        description="further arguments of TRL's GRPOConfig, such as {use_vllm: true}; "
        "vllm_importance_sampling_mode is token_truncate unless named",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        rows = self.prompts * self.group
        if self.global_prompts is None and rows % (self.micro_batch or rows):
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
        together = self.trainer.get("vllm_mode") == "server" or (
            self.trainer.get("vllm_tensor_parallel_size", 1) != 1
        )
        if self.rollouts.redraws and together:
            raise ValueError(
                "rollouts.redraws: want 0 with trainer.vllm_mode server or a "
                "vllm_tensor_parallel_size above 1: TRL wants the same number of replies of every "
                "process there"
            )
        if 0 < self.given_share * self.steps * (self.global_prompts or self.prompts) < 1:
            raise ValueError("given_share: too small for any of steps x prompts")
        return self

    @property
    def stratified(self) -> bool:
        """Whether every group has replies at every level."""
        return (self.groups or ("stratified" if self.objective.kind == "chrpo" else "chosen")) == (
            "stratified"
        )

    def check_group(self, levels: int) -> None:
        """Raises :class:`ConfigError` where a stratified group is too small for so many levels."""
        if self.stratified and self.group < levels:
            raise ConfigError(
                f"setting 'group': want at least {levels}, one rollout per level, with groups "
                "stratified",
                key="group",
            )

    def prompts_each(self, processes: int) -> int:
        """Problems per step on each of so many processes.

        Raises :class:`ConfigError` where ``global_prompts`` cannot be shared out evenly, or
        ``micro_batch`` does not divide the rows of one process.
        """
        each, over = divmod(self.global_prompts or self.prompts * processes, processes)
        if over:
            raise ConfigError(
                f"setting 'global_prompts': want a multiple of processes, {processes}, not "
                f"{self.global_prompts}",
                key="global_prompts",
            )
        rows = each * self.group
        if rows % (self.micro_batch or rows):
            raise ConfigError(
                f"setting 'micro_batch': want a divisor of the rows of a process, {each} x "
                f"{self.group} = {rows}, not {self.micro_batch}",
                key="micro_batch",
            )
        return each

    def at_once(self, processes: int) -> dict[str, int]:
        """Problems per step, and rows of fine-tuning beside them."""
        replayed = self.replay.batch if self.replay else 0
        return {
            "problems per step": self.prompts_each(processes) * processes,
            "replayed rows per step": replayed * processes,
        }

    def check_processes(self, processes: int) -> None:
        """See :meth:`prompts_each`."""
        self.prompts_each(processes)

    def check_launch(self, *, sharded: bool) -> None:
        """As the base class's, and for rollouts."""
        super().check_launch(sharded=sharded)
        if sharded and self.rollouts.backend == "generate":
            raise ConfigError(
                "setting 'rollouts.backend': sharded weights want backend trl",
                key="rollouts.backend",
            )
        if self.trainer.get("use_vllm") and importlib.util.find_spec("vllm") is None:
            raise ConfigError(
                "setting 'trainer.use_vllm': wants vllm, which is not installed here",
                key="trainer.use_vllm",
            )
