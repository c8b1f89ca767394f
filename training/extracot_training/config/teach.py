"""Settings of the stage ``teach``: whose traces, how many, and which are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from extracot_training.config.sampling import API_RUNTIME, Backend, SamplingParams
from extracot_training.pipeline.settings import Seed, SplitNames, StageConfig

SAMPLES = 4


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
    samples: int | None = Field(
        None, ge=1, description="samples per problem; null: 4, of source own the 1 that there is"
    )
    seed: Seed = Field(0, description="seed of sampling; every sample has its own")
    system_prompt: str | None = Field(None, description="system message, if any")
    instruction: str | None = Field(
        "Please reason step by step, and put your final answer within \\boxed{}.",
        description="added to every question after a line break",
    )
    splits: SplitNames = Field(("train", "dev"), description="problems of these splits")
    limit: int | None = Field(None, gt=0, description="use only the first so many problems")
    own_trace: Literal["solution", "terse"] = Field(
        "solution", description="which of the data's own traces (source: own)"
    )
    keep: Literal["correct", "all"] = Field(
        "correct", description="which traces go on: those that are right, or wrong ones too"
    )
    keep_per_problem: int | None = Field(None, ge=1, description="at most so many per problem")
    require_reasoning: bool = Field(True, description="reject replies without a think block")
    tokenizer: str | None = Field(
        None, description="tokenizer to count reasoning with (else the server's count, if any)"
    )

    @model_validator(mode="after")
    def _who(self) -> Self:
        if self.source == "policy" and self.backend is None:
            raise ValueError("source 'policy' needs a backend")
        if self.source == "own" and self.each != 1:
            raise ValueError("source 'own' has one trace per problem: set samples to 1")
        return self

    @property
    def each(self) -> int:
        """Samples per problem."""
        return self.samples or (1 if self.source == "own" else SAMPLES)

    def fingerprint(self) -> dict[str, Any]:
        """As every stage's; ``samples`` is how many there are, said or not."""
        return super().fingerprint() | {"samples": self.each}
