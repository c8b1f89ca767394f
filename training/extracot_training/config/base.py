"""Settings of stage ``base``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from extracot_training.pipeline.settings import Section, Seed, StageConfig
from extracot_training.policy.prompt_settings import PromptSettings


class VocabularySettings(Section):
    """The word-level tokenizer. What it does not know it spells in characters and bytes."""

    numbers: int = Field(100, ge=9, description="numbers up to this are one token")
    min_count: int = Field(2, ge=1, description="a rarer word is spelled out")
    size: int | None = Field(None, ge=300, description="most tokens; the rarest words go first")


class ShapeSettings(Section):
    """Shape of the Llama model; input and output embeddings are tied."""

    width: int = Field(128, ge=16, description="hidden size")
    layers: int = Field(4, ge=1)
    heads: int = Field(4, ge=1, description="query heads")
    kv_heads: int | None = Field(None, ge=1, description="key-value heads; null: as many as heads")
    head_dim: int = Field(32, description="multiple of 32: vLLM's attention on CPUs wants that")
    feed_forward: int = Field(384, ge=16)
    positions: int = Field(2048, ge=64, description="longest prompt and reply, in tokens")
    rope_theta: float = Field(10_000.0, gt=0)
    initial_spread: float = Field(0.02, gt=0, description="standard deviation of new weights")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.head_dim % 32:
            raise ValueError(f"head_dim {self.head_dim}: want a multiple of 32")
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"heads {self.heads} is no multiple of kv_heads {self.kv_heads}")
        return self


class BaseModelConfig(StageConfig):
    """Makes a small model with random weights and a tokenizer of its own, to train from scratch."""

    runtime: ClassVar[frozenset[str]] = frozenset({"inputs", "out"})

    inputs: tuple[Path, ...] = Field(
        min_length=1, description="teach, compress or problems folders: their words are known"
    )
    prompt: PromptSettings = Field(
        default_factory=PromptSettings, description="their words are known, too"
    )
    vocabulary: VocabularySettings = VocabularySettings()
    model: ShapeSettings = ShapeSettings()
    seed: Seed = Field(0, description="seed of the weights")
