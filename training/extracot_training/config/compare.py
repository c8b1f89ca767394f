"""Settings of stage ``compare``: which evaluations go into one table."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from extracot_training.pipeline.settings import BootstrapSettings, StageConfig


class CompareConfig(StageConfig, BootstrapSettings):
    """Puts several evaluations into one table and one plot."""

    runtime: ClassVar[frozenset[str]] = frozenset({"out"})

    runs: dict[str, Path] = Field(
        min_length=1, description="name of each run and its folder of stage evaluate"
    )
    base: str | None = Field(None, description="the run others are compared with (else the first)")

    @field_validator("runs")
    @classmethod
    def _told_apart(cls, runs: dict[str, Path]) -> dict[str, Path]:
        if twice := [name for name in runs if f"{name} (rows)" in runs]:
            raise ValueError(f"'{twice[0]} (rows)' is what the rows of {twice[0]!r} are called")
        return runs
