"""Settings of stage ``fidelity``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from extracot_training.pipeline.settings import BootstrapSettings, Seed, StageConfig


class FidelityConfig(StageConfig, BootstrapSettings):
    """Measures what a frozen reader still answers from compressed traces, ours and baselines'."""

    makes_rows: ClassVar[bool] = True
    runtime: ClassVar[frozenset[str]] = StageConfig.runtime | {"batch", "device", "threads"}

    input: Path = Field(description="folder of the traces that were compressed (teach or annotate)")
    ours: Path = Field(description="folder of stage compress")
    lingua: Path | None = Field(
        None, description="folder of stage compress with units: words, compressor without question"
    )
    blind: Path | None = Field(
        None, description="compress folder (units: atoms) of the compressor without question"
    )
    reader: str = Field(description="the frozen reader: folder, hub name or bundled: name")
    tokenizer: str = Field("bundled:smollm2", description="the policy model's; as in compress")
    levels: tuple[float, ...] = Field((0.2, 0.4, 0.6, 0.8), min_length=1)
    least_full: float = Field(
        0.6, description="the reader must answer this share of full, redacted traces"
    )
    skip_given: bool = Field(
        True, description="leave out problems whose question states the answer's number"
    )
    limit: int | None = Field(None, ge=1, description="first traces only")
    seed: Seed = 41
    batch: int = Field(16, ge=1, description="traces judged at a time")
    device: str = "cpu"
    threads: int = Field(0, ge=0, description="torch threads; 0: torch decides")
