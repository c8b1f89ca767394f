"""Settings of stage ``compressor``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from extracot_training.pipeline.settings import Section, Seed, StageConfig


class AdapterSettings(Section):
    """LoRA on every linear layer; the encoder's own weights stay as they are."""

    rank: int = Field(8, ge=1)
    alpha: int = Field(16, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)


class LossSettings(Section):
    """Class-weighted token loss."""

    kind: Literal["focal", "cross_entropy"] = "focal"
    gamma: float = Field(2.0, ge=0, description="focal exponent")
    class_weights: Literal["balanced", "none"] = Field(
        "balanced", description="balanced: square root of inverse frequency in the training rows"
    )


class NetworkSettings(Section):
    """With strategy steps: the networks over a trace's steps."""

    width: int = Field(64, ge=8)
    layers: int = Field(2, ge=1)
    heads: int = Field(4, ge=1)
    dropout: float = Field(0.3, ge=0, lt=1)
    members: int = Field(3, ge=1, description="networks of other seeds, averaged")
    step_dropout: float = Field(0.1, ge=0, lt=1, description="share of steps left out in training")
    marked_epochs: float = Field(
        0.0, ge=0, description="after `epochs` over all traces, over the marked ones alone"
    )
    marked_rate: float = Field(0.5, gt=0, description="learning rate then, a share of the first")
    caution: float = Field(
        2.0, gt=0, description="a step's worth is needed * (1 - revoked) ** caution"
    )

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self


class MarkedFiles(Section):
    """Traces whose steps are marked by hand, as the benchmark compressor_gate reads them."""

    traces: Path
    marks: tuple[Path, ...] = Field(min_length=1, description="one file for each reader")


class CompressorConfig(StageConfig):
    """Trains a token classifier on annotated traces with the Hugging Face Trainer. Under
    ``accelerate launch`` the same command runs on many devices (DDP, FSDP by its configuration).
    With ``strategy: steps`` it trains networks that choose steps, on traces with labelled steps."""

    runtime: ClassVar[frozenset[str]] = StageConfig.runtime | {
        "eval_batch_size", "logging_steps", "threads", "gradient_checkpointing",
    }  # fmt: skip

    input: Path = Field(description="folder of stage annotate, or of teach with labelled steps")
    strategy: Literal["atoms", "steps"] = Field(
        "atoms", description="steps: the encoder stays frozen under networks over whole traces"
    )
    marked: tuple[MarkedFiles, ...] = Field((), description="with strategy steps: more traces")
    network: NetworkSettings = NetworkSettings()
    encoder: str = Field("bundled:minilm", description="folder, hub name or bundled: name")
    layers: int | None = Field(
        None, ge=1, description="use the encoder's first layers only, for speed; null: all"
    )
    attention_dropout: float | None = Field(
        None, ge=0, lt=1, description="the encoder's while it learns, 0 being fastest by far on a "
        "CPU; null: as it was pretrained",
    )  # fmt: skip
    length: int = Field(512, ge=64, description="encoder tokens per window")
    question: int = Field(128, ge=0, description="tokens of the question at most; 0: not shown")
    asking: bool = Field(
        False, description="of a longer question show the end alone, not also the beginning"
    )
    overlap: float = Field(0.25, ge=0, lt=1, description="share of a window, when compressing")
    adapter: AdapterSettings | None = Field(None, description="LoRA instead of full fine-tuning")
    loss: LossSettings = LossSettings()
    dev_share: float = Field(0.1, gt=0, lt=1, description="problems held out for early stopping")
    seed: Seed = 17
    epochs: float = Field(3.0, gt=0)
    batch_size: int = Field(8, ge=1, description="windows per device and step")
    accumulate: int = Field(1, ge=1)
    eval_batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(2e-5, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup: float = Field(0.06, ge=0, lt=1)
    clip: float = Field(1.0, gt=0)
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    gradient_checkpointing: bool = False
    evaluations: int = Field(4, ge=1, description="evaluations over the whole run")
    patience: int = Field(2, ge=1, description="evaluations without gain in macro-F1 before a stop")
    logging_steps: int = Field(10, ge=1)
    threads: int = Field(0, ge=0, description="torch threads; 0: torch decides")

    @model_validator(mode="after")
    def _fits_its_strategy(self) -> Self:
        if self.strategy == "steps" and self.adapter is not None:
            raise ValueError("strategy steps keeps its encoder frozen; want adapter null")
        if self.strategy == "atoms" and self.marked:
            raise ValueError("strategy atoms learns from annotations alone; want marked empty")
        return self
