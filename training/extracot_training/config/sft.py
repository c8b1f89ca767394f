"""Settings of stage ``sft``. Defaults are the paper's."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from extracot_training.errors import ConfigError
from extracot_training.pipeline.settings import Section, Seed
from extracot_training.policy.training_settings import TrainingSettings


class StatesSettings(Section):
    """States of the frozen layers, kept in a file in bfloat16: computed once for each distinct row,
    read in later epochs. Rows that do not fit are computed each time."""

    gigabytes: float = Field(6.0, gt=0, description="of 10^9 bytes: room that the file may take")
    folder: Path | None = Field(
        None,
        description="where it lies and stays, for other runs on the same rows and frozen layers; "
        "null: beside the checkpoints, and gone with them",
    )


class SftConfig(TrainingSettings):
    """Fine-tunes a causal model on the replies of a mixture. The folder is then a Hugging Face
    model folder with ``renderer.json``; a cut run goes on from its last whole checkpoint."""

    runtime: ClassVar[frozenset[str]] = TrainingSettings.runtime | {
        "log_every", "cache_states", "pass_tokens",
    }  # fmt: skip

    input: Path = Field(description="folder of stage mix")
    model: str = Field(description="folder (stage base or sft, or any other), hub or bundled: name")
    seed: Seed = Field(0, description="seed of new rows, of the order of rows, of dropout")
    epochs: float = Field(3.0, gt=0)
    max_steps: int | None = Field(None, ge=1, description="stop after so many steps; null: epochs")
    betas: tuple[float, float] = Field((0.9, 0.999), description="AdamW's")
    batch: int = Field(2, ge=1, description="rows per device and pass")
    accumulation: int = Field(
        8, ge=1, description="passes per optimizer step (with global_batch: not used)"
    )
    global_batch: int | None = Field(
        None,
        ge=1,
        description="rows per optimizer step on all processes together, however many these are; "
        "null: batch x accumulation on each",
    )
    cutoff: int = Field(6144, ge=16, description="longer rows are left out; length of packs")
    pass_tokens: int | None = Field(
        None,
        ge=16,
        description="tokens of one pass at most, padding included: a larger batch is learned from "
        "in several passes, with the same gradient and less memory; null: a batch at once",
    )
    freeze_layers: int = Field(
        0,
        ge=0,
        description="the lowest layers that do not learn, nor do the embeddings; states at their "
        "border are in bfloat16",
    )
    cache_states: StatesSettings | None = Field(
        None, description="keep the states of the frozen layers: {gigabytes: 6}; null: no"
    )
    new_rows: Literal["mean", "words"] = Field(
        "mean",
        description="how the rows of new tokens start: the mean row and noise, or a word of like "
        "meaning each (short, long, ...), for models that know words",
    )
    group_by_length: bool = Field(True, description="rows of like length share a batch")
    packing: bool = Field(
        False, description="join rows into packs without padding; wants flash attention"
    )
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
        if self.cache_states is not None and not self.freeze_layers:
            raise ValueError(
                "cache_states: want freeze_layers, for only frozen layers stay the same"
            )
        if self.packing and (self.freeze_layers or self.pass_tokens):
            raise ValueError("packing: want freeze_layers 0 and pass_tokens null with it")
        return self

    def passes(self, processes: int) -> int:
        """Passes per optimizer step on each of so many processes.

        Raises :class:`ConfigError` where ``global_batch`` is no multiple of what they read at once.
        """
        if self.global_batch is None:
            return self.accumulation
        at_once = self.batch * processes
        if self.global_batch % at_once:
            raise ConfigError(
                f"setting 'global_batch': want a multiple of batch x processes, {self.batch} x "
                f"{processes} = {at_once}, not {self.global_batch}",
                key="global_batch",
            )
        return self.global_batch // at_once

    def at_once(self, processes: int) -> dict[str, int]:
        """Rows per step."""
        return {"rows per step": self.batch * self.passes(processes) * processes}

    def check_processes(self, processes: int) -> None:
        """See :meth:`passes`; and what a single process alone can do."""
        self.passes(processes)
        for name in ("pass_tokens", "cache_states"):
            if processes > 1 and getattr(self, name) is not None:
                raise ConfigError(f"setting {name!r}: want null with several processes", key=name)
