"""Settings of stage ``sft``. Defaults are the paper's."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from extracot_training.pipeline.settings import Section
from extracot_training.policy.training_settings import TrainingSettings


class LoraSettings(Section):
    """Low-rank adapters instead of all weights. The new tokens' rows are trained with them; the
    result is merged into the model, and the adapter lies beside it in ``adapter/``."""

    rank: int = Field(32, ge=1)
    alpha: float = Field(64.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[str, ...] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        min_length=1,
        description="names of the linear layers to adapt",
    )


class SftConfig(TrainingSettings):
    """Fine-tunes a causal model on the replies of a mixture. The folder is then a Hugging Face
    model folder with ``renderer.json``; a cut run goes on from its last whole checkpoint."""

    runtime: ClassVar[frozenset[str]] = TrainingSettings.runtime | {"log_every"}

    input: Path = Field(description="folder of stage mix")
    model: str = Field(description="folder (stage base or sft, or any other), hub or bundled: name")
    seed: int = Field(0, description="seed of new rows, of the order of rows, of dropout")
    epochs: float = Field(3.0, gt=0)
    max_steps: int | None = Field(None, ge=1, description="stop after so many steps; null: epochs")
    betas: tuple[float, float] = Field((0.9, 0.999), description="AdamW's")
    batch: int = Field(2, ge=1, description="rows per device and pass")
    accumulation: int = Field(8, ge=1, description="passes per optimizer step")
    cutoff: int = Field(6144, ge=16, description="longer rows are left out; length of packs")
    group_by_length: bool = Field(True, description="rows of like length share a batch")
    packing: bool = Field(
        False, description="join rows into packs without padding; wants flash attention"
    )
    lora: LoraSettings | None = Field(None, description="null: train all weights")
    log_every: int = Field(10, ge=1, description="steps between lines of log.jsonl")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.packing and not self.attention.startswith(("flash_attention", "kernels-")):
            raise ValueError(
                "packing joins rows that only flash attention keeps apart; set attention to "
                "flash_attention_2, or packing to false"
            )
        if self.packing and self.device == "cpu":
            raise ValueError("packing wants flash attention, which no CPU has")
        return self
