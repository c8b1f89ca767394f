"""Runs the trainer: settings to TRL's arguments, resuming, and the finished model folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from trl import SFTConfig

from extracot_training.config.sft import LoraSettings, SftConfig
from extracot_training.errors import ConfigError
from extracot_training.pipeline.checkpoints import cut_log, last_checkpoint, publish_folder, step_of
from extracot_training.policy.control_tokens import ControlTokens
from extracot_training.policy.mixed_rows import MixedRow
from extracot_training.stages.sft.rows import GroupedSampler, as_dataset
from extracot_training.stages.sft.trainer import (
    BudgetSftTrainer,
    StageCallback,
    mean_loss,
)

CHECKPOINTS = "checkpoints"
LOG = "log.jsonl"
ADAPTER = "adapter"
# What the trainer writes beside a model that is a pickle, or of no use to anyone.
NOT_PUBLISHED = ("training_args.bin", "README.md")


def fit(
    config: SftConfig,
    folder: Path,
    rows: Sequence[MixedRow],
    model: Any,
    tokenizer: Any,
    tokens: ControlTokens,
) -> dict[str, Any]:
    """Train ``model`` on ``rows`` and leave it in ``folder``; figures for the report.

    Goes on from the newest whole checkpoint in ``folder``. Raises
    :class:`extracot_training.pipeline.checkpoints.LossError` for a loss that is no number.
    """
    trainer = make_trainer(config, folder, rows, model, tokenizer, tokens)
    if config.lora and (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        raise ConfigError("lora does not go with sharded weights: use one_gpu.yaml", key="lora")
    if trainer.is_world_process_zero():  # alone: it removes what is torn
        cut_log(folder / LOG, step_of(last_checkpoint(folder / CHECKPOINTS)))
    trainer.accelerator.wait_for_everyone()
    checkpoint = last_checkpoint(folder / CHECKPOINTS)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.accelerator.wait_for_everyone()
    sizes = [(p.numel(), p.requires_grad) for p in trainer.model.parameters()]
    trained = sum(size for size, grows in sizes if grows)
    _save(trainer, folder, config)
    return {
        "steps": trainer.state.global_step,
        "parameters": sum(size for size, _ in sizes),
        "trained_parameters": trained,
        "tokens": int(trainer.state.num_input_tokens_seen),
        "final_loss": mean_loss(folder / LOG, 5),
    }


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
    return BudgetSftTrainer(
        model=model,
        args=arguments,
        train_dataset=as_dataset(rows),
        processing_class=tokenizer,
        callbacks=[StageCallback(folder / LOG, sampler)],
        sampler=sampler,
        plain_loss=config.lora is not None or arguments.device.type == "cpu",
        peft_config=adapter_config(config.lora, model, tokens) if config.lora else None,
    )


def sft_arguments(config: SftConfig, folder: Path) -> SFTConfig:
    """TRL's arguments. Rows are never cut: ``max_length`` is set for packing alone."""
    return SFTConfig(
        output_dir=str(folder / CHECKPOINTS),
        seed=config.seed,
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.schedule,
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        adam_beta1=config.betas[0],
        adam_beta2=config.betas[1],
        max_grad_norm=config.max_grad_norm,
        per_device_train_batch_size=config.batch,
        gradient_accumulation_steps=config.accumulation,
        max_length=config.cutoff if config.packing else None,
        packing=config.packing,
        completion_only_loss=True,
        gradient_checkpointing=config.gradient_checkpointing,
        bf16=config.precision == "bf16",
        use_cpu=config.device == "cpu",
        save_strategy="steps" if config.checkpoint_every else "no",
        save_steps=config.checkpoint_every or 500,
        save_total_limit=2,
        logging_steps=config.log_every,
        logging_first_step=True,
        include_num_input_tokens_seen="non_padding",
        logging_nan_inf_filter=False,
        ddp_find_unused_parameters=False,
        report_to=list(config.report_to) or "none",
        run_name=config.run_name,
        disable_tqdm=not sys.stderr.isatty(),
        dataloader_pin_memory=torch.cuda.is_available() and config.device != "cpu",
    )


def adapter_config(lora: LoraSettings, model: Any, tokens: ControlTokens) -> Any:
    """PEFT's settings: adapters on the linear layers, and the rows of the control tokens.

    Rows are trained singly, so that an adapter stays small; a tied pair of matrices stays one.
    """
    from peft import LoraConfig

    rows = {"embed_tokens": sorted(tokens.all)}
    if model.get_output_embeddings().weight is not model.get_input_embeddings().weight:
        rows["lm_head"] = sorted(tokens.all)
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        trainable_token_indices=rows,
    )


def _save(trainer: Any, folder: Path, config: SftConfig) -> None:
    """The weights, by every process together; the folder, by the first."""
    made = folder / CHECKPOINTS / "final"
    trainer.accelerator.unwrap_model(trainer.model).config.use_cache = True  # off while training
    if config.lora is None:
        trainer.save_model(str(made))
    elif trainer.is_world_process_zero():
        _save_merged(trainer, made, config)
    if trainer.is_world_process_zero():

        def move(target: Path) -> None:
            for path in made.iterdir():
                if path.name not in NOT_PUBLISHED:
                    path.replace(target / path.name)

        publish_folder(folder, move)
    trainer.accelerator.wait_for_everyone()


def _save_merged(trainer: Any, made: Path, config: SftConfig) -> None:
    """The adapter with the rows it trained, then a plain model with both worked in."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.peft_config["default"].base_model_name_or_path = config.model
    model.save_pretrained(made / ADAPTER, save_embedding_layers=False)
    (made / ADAPTER / "README.md").unlink(missing_ok=True)
    model.merge_and_unload().save_pretrained(made)
    trainer.processing_class.save_pretrained(made)
