"""Settings that every training of the policy model has: stages ``sft`` and ``chrpo`` add theirs."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from extracot_training.errors import ConfigError
from extracot_training.pipeline.settings import Section, Seed, StageConfig

# Places that are scored at a time: a piece's logits are 100 MB in float32 for 49,000 words.
PIECE = 512
# Words of a vocabulary from which on that is worth it.
LARGE = 8192
# The linear layers of Llama and of most models since.
USUAL_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LoraSettings(Section):
    """Low-rank adapters instead of all weights. The result is merged into the model, and the
    adapter lies beside it in ``adapter/``."""

    rank: int = Field(32, ge=1)
    alpha: float = Field(64.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="names of the layers to adapt, or [all-linear]; null: the projections that "
        "Llama has too, or else all linear layers",
    )

    @field_validator("targets")
    @classmethod
    def _usual(cls, targets: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if targets == USUAL_TARGETS else targets  # the default of earlier versions


class TrainingSettings(StageConfig):
    """The model, the optimizer, and what the training runs on."""

    runtime: ClassVar[frozenset[str]] = StageConfig.runtime | {
        "model", "checkpoint_every", "threads", "report_to", "run_name", "processes", "accelerate",
    }  # fmt: skip

    input: Path
    model: str
    seed: Seed = 0
    learning_rate: float = Field(2e-5, gt=0)
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    warmup: float = Field(0.05, ge=0, lt=1, description="share of steps with a rising rate")
    weight_decay: float = Field(0.05, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    precision: Literal["auto", "fp32", "bf16", "pure_bf16"] = Field(
        "bf16",
        description="bf16: autocast over float32 weights; pure_bf16: weights too; auto: bf16 where "
        "the GPU or the processor computes in it, else fp32",
    )
    attention: str = Field(
        "sdpa",
        description="such as sdpa (eager where a model has none), eager, flash_attention_2",
    )
    gradient_checkpointing: bool = Field(True, description="recompute activations to save memory")
    device: Literal["auto", "cpu"] = Field("auto", description="auto: a GPU where there is one")
    threads: int = Field(0, ge=0, description="torch threads; 0: torch decides")
    lora: LoraSettings | None = Field(None, description="null: train all weights")
    checkpoint_every: int = Field(500, ge=0, description="steps between checkpoints; 0: none")
    processes: int = Field(
        1, ge=1, description="started together on this machine, each with a GPU (or device cpu)"
    )
    accelerate: Path | None = Field(
        None,
        description="accelerate's configuration file, to shard the weights (FSDP, DeepSpeed); "
        "null: every process has all of them",
    )
    report_to: tuple[str, ...] = Field((), description="trackers, such as wandb, tensorboard")
    run_name: str | None = Field(None, description="name of the run in trackers")

    def check_processes(self, processes: int) -> None:
        """Raises :class:`~extracot_training.errors.ConfigError` where the work cannot be shared
        out to so many."""

    def at_once(self, processes: int) -> dict[str, int]:
        """How much so many processes learn from at once, in all: it decides the result."""
        return {}

    def check_launch(self, *, sharded: bool) -> None:
        """Raises :class:`~extracot_training.errors.ConfigError` for what this machine lacks, or
        where the settings do not go with weights that are ``sharded``."""
        if sharded and self.lora is not None:
            raise ConfigError("setting 'lora': want null where weights are sharded", key="lora")
