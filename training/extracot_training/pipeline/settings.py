"""The base of every stage's configuration, and what several of them share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field

# What every generator of random numbers takes that is used here (numpy's are the narrowest).
SEEDS = 2**32
Seed = Annotated[int, Field(ge=0, lt=SEEDS)]


class Section(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """A part of a configuration: unknown keys are errors."""


class BootstrapSettings(Section):
    """How intervals are made, for stages with intervals in their reports."""

    resamples: int = Field(2000, ge=100, description="bootstrap resamples for 95% intervals")
    seed: Seed = Field(0, description="seed of the bootstrap")

    @property
    def bootstrap(self) -> dict[str, int]:
        """As arguments of :mod:`extracot_training.pipeline.statistics`."""
        return {"resamples": self.resamples, "seed": self.seed}


class DifferenceSettings(Section):
    """How a checkpoint is told as its difference from a base that a package brings."""

    base: Literal["bundled:smollm2"] = Field(
        "bundled:smollm2", description="what the model was trained from, with all its files at hand"
    )
    form: Literal["bits", "low_rank"] = Field(
        "bits", description="of changed matrices: numbers of a few bits, or factors of low rank"
    )
    bits: int = Field(5, ge=2, le=8, description="form bits: bits of a number")
    group: int = Field(
        64, ge=8, le=4096, multiple_of=8, description="form bits: values that share a scale"
    )
    rank: int = Field(48, ge=1, le=1024, description="form low_rank: rank of the factors")


class StageConfig(Section):
    """A whole stage's configuration.

    ``runtime`` names the dotted settings that don't change what comes out (where things lie, how
    many at a time): those may differ when a run is resumed. Subclasses extend it. A stage that
    ``makes_rows`` has not finished where they are missing.
    """

    runtime: ClassVar[frozenset[str]] = frozenset({"input", "out"})
    makes_rows: ClassVar[bool] = False

    out: Path = Field(description="folder this stage fills")

    def fingerprint(self) -> dict[str, Any]:
        """The settings that decide the result, as plain JSON."""
        settings = self.model_dump(mode="json")
        for name in self.runtime:
            *parents, leaf = name.split(".")
            level: Any = settings
            for parent in parents:
                level = level.get(parent) if isinstance(level, dict) else None
            if isinstance(level, dict):
                level.pop(leaf, None)
        return settings
