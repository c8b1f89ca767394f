"""Stage ``sft``: completion-only fine-tuning with TRL, in full or by LoRA.

The rows are token ids already, rendered by stage ``mix``; nothing is tokenised or cut here. What
comes out is a Hugging Face model folder with ``renderer.json``. Several processes are started by
:mod:`extracot_training.policy.launching`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from trl import SFTConfig

from extracot_training.config.sft import SftConfig
from extracot_training.errors import ConfigError, StageError
from extracot_training.pipeline.checkpoints import LOG, log_lines
from extracot_training.pipeline.distributed import is_first, world_size
from extracot_training.pipeline.files import write_atomic
from extracot_training.pipeline.pictures import LOSS, loss_picture
from extracot_training.pipeline.records import read_rows, rows_file
from extracot_training.pipeline.stage import Counts, StageResult, StageRun
from extracot_training.policy.adapters import adapter_config, save_merged
from extracot_training.policy.control_tokens import ControlTokens
from extracot_training.policy.loading import check_mixed_rows
from extracot_training.policy.mixed_rows import MixedRow
from extracot_training.policy.prompt_settings import RENDERER_FILENAME, PromptSettings
from extracot_training.policy.trainer import (
    TrainingLog,
    common_arguments,
    load_for,
    run_training,
    save,
    train,
)
from extracot_training.stages.sft.known_states import known_states
from extracot_training.stages.sft.trainer import (
    SHAPES,
    BudgetSftTrainer,
    EpochOrder,
    GroupedSampler,
    as_dataset,
)

LOGGED = (
    "loss", "grad_norm", "learning_rate", "mean_token_accuracy", "entropy", "epoch",
    "num_input_tokens_seen",
)  # fmt: skip


def run(config: SftConfig, *, force: bool = False) -> StageResult:
    """Stage ``sft``."""
    inputs = {
        "rows": rows_file(config.input),
        "renderer": config.input / RENDERER_FILENAME,
        "tokenizer": config.input / "tokenizer" / "tokenizer.json",
    }
    return run_training("sft", config, inputs, lambda stage: _work(config, stage), force=force)


def _work(config: SftConfig, stage: StageRun) -> Counts:
    prompt = PromptSettings.load(config.input)
    every = list(read_rows(config.input, MixedRow))
    rows = [row for row in every if row.length <= config.cutoff]
    if not rows:
        raise StageError(f"{config.input}: no row of at most {config.cutoff} tokens")
    model, tokenizer, tokens = load_for(config, prompt, stage, words=config.new_rows == "words")
    if config.freeze_layers and tokens.added and config.new_rows != "words":
        raise ConfigError(
            "setting 'new_rows': want words with freeze_layers, for the rows of new tokens stay as "
            "they start",
            key="new_rows",
        )
    check_mixed_rows(config.input, rows, prompt, tokenizer, tokens, model=config.model)
    trainer = make_trainer(config, stage.folder, rows, model, tokenizer, tokens)
    if config.lora and trainer.sharded:
        raise ConfigError("lora does not go with sharded weights: use one_gpu.yaml", key="lora")
    figures = _fit(config, trainer, prompt, stage.folder)
    figures |= {"rows": len(rows), "over_cutoff": len(every) - len(rows)}
    if is_first():
        prompt.save(stage.folder)
        write_atomic(stage.folder / LOSS, loss_picture(log_lines(stage.folder / LOG)))
        stage.report(_report(config, figures), figures)
    return figures


def make_trainer(
    config: SftConfig,
    folder: Path,
    rows: Sequence[MixedRow],
    model: Any,
    tokenizer: Any,
    tokens: ControlTokens,
) -> BudgetSftTrainer:
    """The trainer of ``model`` on ``rows``, its log and checkpoints in ``folder``."""
    arguments = sft_arguments(config, folder)
    sampler = None
    if not config.packing:
        group = config.batch * arguments.world_size
        lengths = [row.length for row in rows]
        sampler = GroupedSampler(lengths, group, seed=config.seed, by_length=config.group_by_length)
    trainer = BudgetSftTrainer(
        model=model,
        args=arguments,
        train_dataset=as_dataset(rows),
        processing_class=tokenizer,
        callbacks=[EpochOrder(sampler), TrainingLog(folder, LOGGED)],
        sampler=sampler,
        plain_loss=config.lora is not None or arguments.device.type == "cpu",
        pass_tokens=config.pass_tokens,
        peft_config=adapter_config(config.lora, model, tokens.all, above=config.freeze_layers)
        if config.lora
        else None,
    )
    trainer.known = known_states(config, folder, rows, trainer.model)
    return trainer


def sft_arguments(config: SftConfig, folder: Path) -> SFTConfig:
    """TRL's arguments. Rows are never cut: ``max_length`` is set for packing alone; nor are they
    padded beyond the cutoff, after which a model may have no positions."""
    even = config.pass_tokens is not None and config.cutoff % SHAPES == 0
    return SFTConfig(
        **common_arguments(config, folder),
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        adam_beta1=config.betas[0],
        adam_beta2=config.betas[1],
        per_device_train_batch_size=config.batch,
        gradient_accumulation_steps=config.passes(world_size()),
        max_length=config.cutoff if config.packing else None,
        pad_to_multiple_of=SHAPES if even else None,
        packing=config.packing,
        completion_only_loss=True,
        save_steps=config.checkpoint_every or 500,
        logging_steps=config.log_every,
        logging_first_step=True,
        include_num_input_tokens_seen="non_padding",
        ddp_find_unused_parameters=False,
    )


def _fit(
    config: SftConfig, trainer: BudgetSftTrainer, prompt: PromptSettings, folder: Path
) -> dict[str, Any]:
    """Train, leave the model in ``folder``; figures for the report."""
    train(trainer, folder)
    if trainer.known is not None:
        trainer.known.flush()
    sizes = [(p.numel(), p.requires_grad) for p in trainer.model.parameters()]
    save(
        trainer,
        folder,
        partial(save_merged, trainer, prompt, config.model) if config.lora else None,
    )
    return {
        "steps": trainer.state.global_step,
        "parameters": sum(size for size, _ in sizes),
        "trained_parameters": sum(size for size, grows in sizes if grows),
        "tokens": int(trainer.state.num_input_tokens_seen),
        "final_loss": mean_loss(folder / LOG, 5),
    }


def mean_loss(log: Path, last: int) -> float | None:
    """Mean loss of the last so many lines of the log; ``None`` without any."""
    losses = [line["loss"] for line in log_lines(log)[-last:]]
    finite = [loss for loss in losses if math.isfinite(loss)]
    return sum(finite) / len(finite) if finite else None


def _report(config: SftConfig, figures: dict[str, Any]) -> str:
    kind = "all weights" if config.lora is None else f"LoRA of rank {config.lora.rank}"
    loss = figures["final_loss"]
    return (
        "# Fine-tuning on the mixture\n\n"
        f"{figures['rows']} rows ({figures['over_cutoff']} over {config.cutoff} tokens left out), "
        f"{figures['steps']} steps, {kind}, {figures['trained_parameters']:,} trained of "
        f"{figures['parameters']:,}. Mean loss of the last log lines: "
        f"{'none' if loss is None else f'{loss:.4f}'}. The course is in `{LOG}`.\n\n"
        f"![Loss]({LOSS})\n"
    )
