"""Settings of the stage ``teach``: whose traces, how many, and which are kept."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from extracot_training.config.sampling import API_RUNTIME, Backend, SamplingParams
from extracot_training.pipeline.records import Split
from extracot_training.pipeline.settings import Seed, StageConfig


class TeachConfig(StageConfig):
    """Settings of the stage ``teach``."""

    makes_rows: ClassVar[bool] = True
    runtime: ClassVar[frozenset[str]] = StageConfig.runtime | API_RUNTIME | {"backend.batch"}

    input: Path = Field(description="folder of the stage problems")
    source: Literal["policy", "own"] = Field(
        "policy", description="sample the policy model, or take the data's own solutions"
    )
    backend: Backend | None = Field(None, description="who generates (source: policy)")
    sampling: SamplingParams = Field(
        default_factory=SamplingParams, description="how tokens are drawn"
    )
    samples: int = Field(4, ge=1, description="samples per problem")
    seed: Seed = Field(0, description="seed of sampling; every sample has its own")
    system_prompt: str | None = Field(None, description="system message, if any")
    instruction: str | None = Field(
        "Please reason step by step, and put your final answer within \\boxed{}.",
        description="added to every question after a line break",
    )
    splits: tuple[Split, ...] = Field(("train", "dev"), description="problems of these splits")
    limit: int | None = Field(None, gt=0, description="use only the first so many problems")
    own_trace: Literal["solution", "terse"] = Field(
        "solution", description="which of the data's own traces (source: own)"
    )
    keep: Literal["correct", "all"] = Field("correct", description="which traces go on")
    keep_per_problem: int | None = Field(None, ge=1, description="at most so many per problem")
    require_reasoning: bool = Field(True, description="reject replies without a think block")
    tokenizer: str | None = Field(
        None, description="tokenizer to count reasoning with (else the server's count, if any)"
    )

    @model_validator(mode="after")
    def _who(self) -> Self:
        if self.source == "policy" and self.backend is None:
            raise ValueError("source 'policy' needs a backend")
        if self.source == "own" and self.samples != 1:
            raise ValueError("source 'own' has one trace per problem: set samples to 1")
        return self
