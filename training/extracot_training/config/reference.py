"""Settings of stage ``reference``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from extracot_training.config.sampling import (
    API_RUNTIME,
    GenerateBackend,
    RolloutBackendConfig,
    RolloutSamplingParams,
)
from extracot_training.pipeline.settings import Seed, SplitNames, StageConfig


class ReferenceConfig(StageConfig):
    """Samples every level k times per problem: what each problem needs (r*) and how long the model
    reasons about it at level 1.0 (L_ref). A cut run goes on where it was."""

    makes_rows: ClassVar[bool] = True
    runtime: ClassVar[frozenset[str]] = StageConfig.runtime | API_RUNTIME | {"model", "threads"}

    input: Path = Field(description="folder of stage problems")
    splits: SplitNames = Field(("train", "dev"), description="whose problems")
    limit: int | None = Field(None, ge=1, description="first problems of each split only")
    model: str = Field(description="folder of stage sft or chrpo")
    levels: tuple[float, ...] | None = Field(
        None, description="levels to sample, 1.0 among them; null: all that the model knows"
    )
    k: int = Field(4, ge=1, description="replies per problem and level")
    drawing: RolloutSamplingParams = RolloutSamplingParams()
    backend: RolloutBackendConfig = GenerateBackend()
    delta: float = Field(
        0.05, ge=0, lt=1, description="accuracy below the best level's that r* may have (estimated)"
    )
    seed: Seed = Field(0, description="seed of every reply, with its problem, level and number")
    threads: int = Field(0, ge=0, description="torch threads; 0: torch decides")
