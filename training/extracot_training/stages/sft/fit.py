"""Runs the trainer: settings to TRL's arguments, adapters, and figures of what was trained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from trl import SFTConfig

from extracot_training.config.sft import LoraSettings, SftConfig
from extracot_training.errors import ConfigError
from extracot_training.pipeline.checkpoints import LOG
from extracot_training.policy.control_tokens import ControlTokens
from extracot_training.policy.mixed_rows import MixedRow
from extracot_training.policy.trainer import TrainingLog, common_arguments, save, train
from extracot_training.stages.sft.rows import GroupedSampler, as_dataset
from extracot_training.stages.sft.trainer import BudgetSftTrainer, EpochOrder, mean_loss

ADAPTER = "adapter"
LOGGED = (
    "loss", "grad_norm", "learning_rate", "mean_token_accuracy", "entropy", "epoch",
    "num_input_tokens_seen",
)  # fmt: skip


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
    if config.lora and trainer.sharded:
        raise ConfigError("lora does not go with sharded weights: use one_gpu.yaml", key="lora")
    train(trainer, folder)
    sizes = [(p.numel(), p.requires_grad) for p in trainer.model.parameters()]
    trained = sum(size for size, grows in sizes if grows)
    save(trainer, folder, partial(_save_merged, trainer, config) if config.lora else None)
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
        callbacks=[EpochOrder(sampler), TrainingLog(folder, LOGGED)],
        sampler=sampler,
        plain_loss=config.lora is not None or arguments.device.type == "cpu",
        peft_config=adapter_config(config.lora, model, tokens) if config.lora else None,
    )


def sft_arguments(config: SftConfig, folder: Path) -> SFTConfig:
    """TRL's arguments. Rows are never cut: ``max_length`` is set for packing alone."""
    return SFTConfig(
        **common_arguments(config, folder),
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        adam_beta1=config.betas[0],
        adam_beta2=config.betas[1],
        per_device_train_batch_size=config.batch,
        gradient_accumulation_steps=config.accumulation,
        max_length=config.cutoff if config.packing else None,
        packing=config.packing,
        completion_only_loss=True,
        save_steps=config.checkpoint_every or 500,
        logging_steps=config.log_every,
        logging_first_step=True,
        include_num_input_tokens_seen="non_padding",
        ddp_find_unused_parameters=False,
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


def _save_merged(trainer: Any, config: SftConfig, made: Path) -> None:
    """The adapter with the rows it trained, then a plain model with both worked in."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.peft_config["default"].base_model_name_or_path = config.model
    model.save_pretrained(made / ADAPTER, save_embedding_layers=False)
    (made / ADAPTER / "README.md").unlink(missing_ok=True)
    model.merge_and_unload().save_pretrained(made)
    trainer.processing_class.save_pretrained(made)
