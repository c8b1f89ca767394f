"""Settings of stage ``compress``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from extracot_training.pipeline.settings import Section, Seed, StageConfig

Ratio = Annotated[float, Field(gt=0, le=1)]


class CleaningSettings(Section):
    """Which compressed traces are fit to train on. Limits on repetition tighten as the ratio falls:
    at ratio r a limit x counts as ``x * (0.7 + 0.3 r)``."""

    min_tokens: int = Field(8, ge=0, description="fewer kept tokens than this are no reasoning")
    max_bigram_repeats: float = Field(0.45, gt=0, le=1, description="share of repeated word pairs")
    max_trigram_repeats: float = Field(0.35, gt=0, le=1)
    max_top_word: float = Field(0.3, gt=0, le=1, description="share of the most frequent word")
    max_run: int = Field(5, ge=1, description="the same word this often in a row")


class CompressConfig(StageConfig):
    """Compresses traces to every ratio. ``all.jsonl`` then holds a row per trace and ratio,
    ``rows.jsonl`` those that are clean, within ``bucket`` of their ratio, and of samples that have
    such a row at every ratio."""

    makes_rows: ClassVar[bool] = True
    runtime: ClassVar[frozenset[str]] = StageConfig.runtime | {"batch", "device", "threads"}

    input: Path = Field(description="folder of traces (stage teach) or annotations")
    compressor: Path | None = Field(None, description="trained compressor; null: the shipped one")
    tokenizer: str = Field("bundled:smollm2", description="the policy model's: budgets count in it")
    ratios: tuple[Ratio, ...] = Field((0.2, 0.4, 0.6, 0.8, 1.0), min_length=1)
    units: Literal["atoms", "words"] = Field(
        "atoms", description="words: cut at white space, no formula or answer kept whole (baseline)"
    )
    strategy: Literal["steps", "atoms"] | None = Field(
        None,
        description="steps: whole sentences by what the answer depends on; atoms: formulas and "
        "words one by one; null: what the compressor was trained for (the shipped ones: steps)",
    )
    scores: Literal["compressor", "random", "graph"] = Field(
        "compressor",
        description="random: atoms in random order, the answer kept; graph: steps by cues and "
        "dependencies alone (baselines)",
    )
    seed: Seed = Field(0, description="with scores random: of the order")
    bucket: float = Field(0.05, gt=0, description="distance of realised from target in rows.jsonl")
    cleaning: CleaningSettings = CleaningSettings()
    limit: int | None = Field(None, ge=1, description="first traces only")
    batch: int = Field(8, ge=1, description="windows per forward pass")
    device: str = "cpu"
    threads: int = Field(0, ge=0, description="torch threads; 0: torch decides")

    @model_validator(mode="after")
    def _scored(self) -> Self:
        if self.scores != "compressor" and self.compressor is not None:
            raise ValueError(f"scores {self.scores} reads no compressor; want compressor null")
        if self.units == "words" and (self.strategy == "steps" or self.scores == "graph"):
            raise ValueError("units words chooses no steps; want units atoms")
        if self.scores != "compressor" and self.strategy is not None:
            raise ValueError(f"scores {self.scores} has its own strategy; want strategy null")
        return self

    @field_validator("ratios")
    @classmethod
    def _ascending(cls, ratios: tuple[float, ...]) -> tuple[float, ...]:
        if list(ratios) != sorted(set(ratios)):
            raise ValueError("ratios must ascend without repeats")
        return ratios
