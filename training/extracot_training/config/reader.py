"""Settings of stage ``reader``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, field_validator

from extracot_training.pipeline.settings import Section, Seed, StageConfig


class ReaderProblems(Section):
    """Which generated problems the reader learns from."""

    seed: Seed = Field(70_001, description="seed of its own problems; no evaluation may use it")
    max_number: int = Field(20, ge=10, description="bound of every number; one token each")
    steps: tuple[int, int] = Field((2, 3), description="equations per problem, inclusive")
    families: tuple[str, ...] | None = Field(None, description="families; null: all that fit")
    verbosity: float = Field(0.0, ge=0, le=1, description="how talkative traces are")
    threads: int = Field(1, ge=1, le=6, description="stories per problem, as in stage problems")

    @field_validator("steps")
    @classmethod
    def _ascending(cls, steps: tuple[int, int]) -> tuple[int, int]:
        if steps[0] > steps[1]:
            raise ValueError("want the fewest first, such as [2, 3]")
        return steps


class ReaderModel(Section):
    """Shape of the Llama-like model."""

    width: int = Field(128, ge=16)
    layers: int = Field(3, ge=1)
    heads: int = Field(4, ge=1)
    feed_forward: int = Field(256, ge=16)
    positions: int = Field(1536, ge=128, description="longest question + trace in its tokens")


class ReaderConfig(StageConfig):
    """Trains a small reader from scratch. Every batch is a function of seed and step, so a cut run
    goes on exactly where it was."""

    runtime: ClassVar[frozenset[str]] = StageConfig.runtime | {"checkpoint_every", "threads"}

    problems: ReaderProblems = ReaderProblems()
    model: ReaderModel = ReaderModel()
    seed: Seed = Field(7, description="seed of weights and corruption")
    steps: int = Field(1700, ge=1, description="optimizer steps")
    arithmetic_steps: int = Field(350, ge=0, description="first steps on bare equations only")
    rows: int = Field(16, ge=1, description="examples per step")
    learning_rate: float = Field(2e-3, gt=0)
    warmup: float = Field(0.05, ge=0, lt=1, description="share of steps with a rising rate")
    weight_decay: float = Field(0.05, ge=0)
    redact: float = Field(0.7, ge=0, le=1, description="share of examples with the answer hidden")
    evaluate_every: int = Field(250, ge=1)
    evaluate_on: int = Field(100, ge=1, description="problems per evaluation")
    checkpoint_every: int = Field(100, ge=1, description="steps between restart points")
    threads: int = Field(0, ge=0, description="torch threads; 0: torch decides")
