"""What the trainers of the policy model share: arguments, resuming, the log, the finished folder.

Stages ``sft`` and ``chrpo`` put :class:`PolicyTrainer` before a trainer of TRL's. Whole checkpoints
are told from torn ones, the log is cut back to where a run goes on, and a loss that is no number
ends the run. Knows transformers' trainer; knows no objective.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback

from extracot_training.pipeline.checkpoints import (
    CHECKPOINTS,
    LOG,
    LossError,
    cut_log,
    last_checkpoint,
    mark_whole,
    publish_folder,
    step_of,
)
from extracot_training.pipeline.distributed import is_first, run_stage_together, world_size
from extracot_training.pipeline.progress import PlainProgress
from extracot_training.pipeline.stage import Conditions, Counts, Manifest, StageResult, StageRun
from extracot_training.policy.control_tokens import ControlTokens
from extracot_training.policy.launching import sharding_of
from extracot_training.policy.loading import load_policy_model
from extracot_training.policy.model_inputs import model_inputs
from extracot_training.policy.model_settings import ModelSettings
from extracot_training.policy.precision import on_cpu, settled, told
from extracot_training.policy.prompt_settings import PromptSettings
from extracot_training.policy.rehearsal import rehearse_saving
from extracot_training.policy.training_settings import TrainingSettings

# Stages whose model was rehearsed, trained and saved.
TRAININGS = ("sft", "chrpo")
# What the trainer writes beside a model that is a pickle, or of no use to anyone.
NOT_PUBLISHED = ("training_args.bin", "README.md")


def run_training(
    name: str,
    config: TrainingSettings,
    inputs: Mapping[str, Path],
    work: Callable[[StageRun], Counts],
    *,
    force: bool,
) -> StageResult:
    """A stage that trains ``config.model``, by every process of the launch together.

    Checkpoints in the folder go once ``work`` has left a model there and the folder says so.
    """

    def trained(stage: StageRun) -> Counts:
        if config.precision == "auto" and is_first():
            print(told(config), file=sys.stderr, flush=True)
        if config.threads:
            torch.set_num_threads(config.threads)
        return work(stage)

    every = {**inputs, **model_inputs(config.model)}
    done = run_stage_together(
        name,
        config,
        every,
        trained,
        force=force,
        cpu=config.device == "cpu",
        conditions=conditions_of(config, world_size()),
    )
    if is_first():
        shutil.rmtree(config.out / CHECKPOINTS, ignore_errors=True)
    return done


def conditions_of(config: TrainingSettings, processes: int) -> Conditions:
    """What decides a training besides its settings: how it is shared out."""
    sharding = "NO" if config.accelerate is None else sharding_of(config.accelerate)
    shared = {"processes": processes, "sharding": sharding}
    if config.precision == "auto":  # what it comes to is the machine's
        shared["precision"] = settled(config)
    return Conditions(always=config.at_once(processes), while_cut=shared)


def load_for(
    config: TrainingSettings, prompt: PromptSettings, stage: StageRun, *, words: bool = False
) -> tuple[Any, Any, ControlTokens]:
    """Model, tokenizer and tokens as :func:`load_policy_model` gives them, by the settings.

    First, in a run that begins, it is tried whether such a model can be saved and published, unless
    a training left it so: then it was.
    """
    if is_first() and not stage.resumed and not _saved_before(config):
        rehearse_saving(config.model, prompt, stage.folder, lora=config.lora)
    dtype = "bfloat16" if settled(config) == "pure_bf16" else "float32"
    return load_policy_model(
        config.model,
        prompt,
        seed=config.seed,
        dtype=dtype,
        attention=config.attention,
        words=words,
    )


def _saved_before(config: TrainingSettings) -> bool:
    made = Manifest.load(Path(config.model)) if config.lora is None else None
    return made is not None and made.finished is not None and made.stage in TRAININGS


def common_arguments(config: TrainingSettings, folder: Path) -> dict[str, Any]:
    """The arguments of TRL's trainers that follow from the settings of every training."""
    return {
        "output_dir": str(folder / CHECKPOINTS),
        "seed": config.seed,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.schedule,
        "warmup_steps": config.warmup,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "gradient_checkpointing": config.gradient_checkpointing,
        "bf16": settled(config) == "bf16",
        "use_cpu": on_cpu(config),
        "save_strategy": "steps" if config.checkpoint_every else "no",
        "save_total_limit": 2,
        "logging_nan_inf_filter": False,
        "report_to": list(config.report_to) or "none",
        "run_name": config.run_name,
        "disable_tqdm": not sys.stderr.isatty(),
        "dataloader_pin_memory": torch.cuda.is_available() and config.device != "cpu",
    }


class PolicyTrainer:
    """Comes before a trainer of TRL's in a class's bases: see the module."""

    def __init__(self, *args: Any, model: Any, **kwargs: Any) -> None:
        self.as_loaded = ModelSettings.of(model)
        super().__init__(*args, model=model, **kwargs)  # type: ignore[call-arg]
        self.remove_callback(PrinterCallback)  # type: ignore[attr-defined]
        if not sys.stderr.isatty():  # on a terminal the library shows a bar
            name = Path(self.args.output_dir).parent.name  # type: ignore[attr-defined]
            self.add_callback(StepProgress(name))  # type: ignore[attr-defined]

    @property
    def sharded(self) -> bool:
        """Whether no process has all the weights."""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)  # type: ignore[attr-defined]

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As the base class's. Raises :class:`LossError` for a loss that is NaN or infinite."""
        loss: torch.Tensor = super().training_step(*args, **kwargs)  # type: ignore[misc]
        if not bool(torch.isfinite(loss)):
            step = self.state.global_step + 1  # type: ignore[attr-defined]
            raise LossError(
                f"step {step}: the loss is {loss.item()}; lower learning_rate, or use precision "
                "fp32 or bf16 instead of pure_bf16"
            )
        return loss

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """As the base class's, which takes a step before it looks whether all have been taken: a
        run that was cut while it saved its model would get one too many."""
        if self.state.global_step >= self.state.max_steps:  # type: ignore[attr-defined]
            self.control.should_training_stop = True  # type: ignore[attr-defined]
            return
        super()._run_epoch(*args, **kwargs)  # type: ignore[misc]

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the stage writes its own report."""


class OwnIntervals(TrainerCallback):  # type: ignore[misc]
    """A run that goes on logs and saves as it is told now, not as its checkpoint was."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        state.logging_steps, state.save_steps = args.logging_steps, args.save_steps


class StepProgress(TrainerCallback):  # type: ignore[misc]
    """A line now and then: steps, loss, rate, time left."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._shown: PlainProgress | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._shown = PlainProgress(state.max_steps, f"{self._name}: step", state.global_step)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **kwargs: Any
    ) -> None:
        if self._shown is not None and "loss" in logs:
            self._shown.set_postfix(loss=f"{logs['loss']:.4f}")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._shown is not None:
            self._shown.update(state.global_step - self._shown.done)


class WholeCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Marks checkpoints that are whole, so that a kill or a full disk leaves none that looks so."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # The trainer calls this when weights, optimizer, schedule and random state are written.
        if state.is_world_process_zero:
            mark_whole(Path(args.output_dir), state.global_step)


class TrainingLog(WholeCheckpoints):
    """Appends the figures called ``names`` to ``log.jsonl`` as well.

    ``step`` counts ``updates`` of the optimizer at a time.
    """

    def __init__(self, folder: Path, names: tuple[str, ...], *, updates: int = 1) -> None:
        self._log = folder / LOG
        self._names = names
        self._updates = updates

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **kwargs: Any
    ) -> None:
        if "loss" in logs:
            line = {name: logs[name] for name in self._names if name in logs}
            self.append(state, {**line, **self.further()})

    def further(self) -> Mapping[str, Any]:
        """What else a line has; nothing, unless a subclass says so."""
        return {}

    def append(self, state: Any, values: Mapping[str, Any]) -> None:
        """Write one line, in the first process."""
        if state.is_world_process_zero:
            line = {"step": state.global_step // self._updates, **values}
            with self._log.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")


def train(trainer: Any, folder: Path, *, updates: int = 1) -> None:
    """Train from the newest whole checkpoint in ``folder``, or from the beginning.

    The log is cut back to where that is; ``updates`` as for :class:`TrainingLog`.
    """
    if trainer.is_world_process_zero():  # alone: it removes what is torn
        checkpoint = last_checkpoint(folder / CHECKPOINTS)
        if checkpoint is None:
            (folder / LOG).unlink(missing_ok=True)
        else:
            cut_log(folder / LOG, step_of(checkpoint) // updates)
    trainer.accelerator.wait_for_everyone()
    checkpoint = last_checkpoint(folder / CHECKPOINTS)
    trainer.add_callback(OwnIntervals())
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.accelerator.wait_for_everyone()


def save(trainer: Any, folder: Path, write: Callable[[Path], None] | None = None) -> None:
    """Leave the trained model in ``folder``, whole or not at all.

    The weights are saved by every process together, or by the first alone through ``write``.
    """
    made = folder / CHECKPOINTS / "final"
    if trainer.is_world_process_zero():
        shutil.rmtree(made, ignore_errors=True)  # what a cut run had saved of it
    trainer.accelerator.wait_for_everyone()
    trainer.as_loaded.put_back(trainer.accelerator.unwrap_model(trainer.model))
    if write is None:
        trainer.save_model(str(made))
    elif trainer.is_world_process_zero():
        write(made)
    if trainer.is_world_process_zero():

        def move(target: Path) -> None:
            for path in made.iterdir():
                if path.name not in NOT_PUBLISHED:
                    path.replace(target / path.name)

        publish_folder(folder, move)
    trainer.accelerator.wait_for_everyone()
