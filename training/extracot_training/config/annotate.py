"""Settings of stage ``annotate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AliasChoices, Field, field_validator

from extracot_training.config.sampling import ApiSettings
from extracot_training.pipeline.settings import Section, Seed, StageConfig


class RulesSettings(Section):
    """Deterministic rules."""

    kind: Literal["rules"] = "rules"
    context: int = Field(4, ge=0, description="words kept around an equation to name it")


class LikelihoodSettings(Section):
    """What the answer's likelihood loses without an atom, under a frozen reader."""

    kind: Literal["likelihood"] = "likelihood"
    reader: str = Field(description="causal model: folder, hub name or bundled: name")
    keep_rate: float = Field(0.3, gt=0, lt=1, description="share of atoms to keep")
    contexts: int = Field(1, ge=1, description="thinned traces to try each atom in")
    thin: float = Field(0.0, ge=0, lt=1, description="share of other atoms left out of a context")
    redact: bool = Field(True, description="hide the answer, so that copying it counts for nothing")
    seed: Seed = 29
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"


class GoldSettings(Section):
    """Labels that the trace came with: what the answer depends on, known by who made it."""

    kind: Literal["gold"] = "gold"
    threshold: float = Field(
        0.5, gt=0, le=1, description="keep atoms of this weight: 1 formulas and values, 0.6 names"
    )


class LlmSettings(ApiSettings):
    """A large model behind an OpenAI-compatible endpoint. ``first_wait_s`` is ``backoff_s`` too."""

    kind: Literal["llm"] = "llm"
    model: str
    target: int = Field(512, ge=32, description="size of a chunk, in words and signs")
    cap: int = Field(640, ge=32, description="size no chunk exceeds unless one sentence does")
    attempts: int = Field(3, ge=1, description="askings of a chunk whose answer is unusable")
    retries: int = Field(4, ge=0, description="repeats of a failed call, waiting ever longer")
    backoff_s: float = Field(
        1.0,
        gt=0,
        validation_alias=AliasChoices("backoff_s", "first_wait_s"),
        description="before the first repeat; doubles",
    )
    timeout_s: float = Field(120.0, gt=0)
    concurrency: int = Field(8, ge=1)
    max_tokens: int = Field(1024, ge=16)
    prompt_price: float = Field(0.0, ge=0, description="per million tokens")
    completion_price: float = Field(0.0, ge=0, description="per million tokens")
    cache: Path | None = Field(None, description="folder of replies; null: `cache` in `out`")


AnnotatorSettings = Annotated[
    RulesSettings | LikelihoodSettings | GoldSettings | LlmSettings, Field(discriminator="kind")
]


class AnnotateConfig(StageConfig):
    """Marks which atoms of each right trace to keep."""

    makes_rows: ClassVar[bool] = True
    runtime: ClassVar[frozenset[str]] = (
        StageConfig.runtime
        | {f"annotator.{name}" for name in ApiSettings.model_fields}
        | {"batch", "annotator.cache", "annotator.device"}
    )

    input: Path = Field(description="folder of stage teach")
    annotator: AnnotatorSettings = RulesSettings()
    keep_rate: tuple[float, float] = Field(
        (0.02, 0.8),
        description="rows that keep a smaller or larger share of characters are left out",
    )
    limit: int | None = Field(None, ge=1, description="first traces only")
    compare: tuple[Path, ...] = Field(
        (), description="other annotate folders to report agreement with"
    )
    batch: int = Field(32, ge=1, description="traces handed to the annotator at a time")

    @field_validator("keep_rate")
    @classmethod
    def _ascending(cls, rates: tuple[float, float]) -> tuple[float, float]:
        if rates[0] > rates[1]:
            raise ValueError("want the smaller share first, such as [0.02, 0.8]")
        return rates
