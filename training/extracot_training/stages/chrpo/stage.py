"""Stage ``chrpo``: from the model of stage sft and what stage reference measured of it.

The folder is then a Hugging Face model folder with ``renderer.json``. Distribution over devices is
accelerate's: ``accelerate launch -m extracot_training.cli chrpo …``.
"""

from __future__ import annotations

import dataclasses
import difflib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig

from extracot_training.config.chrpo import ChrpoConfig
from extracot_training.errors import ConfigError
from extracot_training.generation.rollout.base import PromptMaker, ReplyReader
from extracot_training.pipeline.checkpoints import cut_log, last_checkpoint, publish_folder, step_of
from extracot_training.pipeline.distributed import is_first, run_stage_together, world_size
from extracot_training.pipeline.records import read_rows, rows_file
from extracot_training.pipeline.stage import Counts, Outcome, StageRun
from extracot_training.policy.control_tokens import ControlTokens
from extracot_training.policy.loading import check_mixed_rows, load_policy_model, model_inputs
from extracot_training.policy.mixed_rows import MixedRow
from extracot_training.policy.pretrained import pad_id
from extracot_training.policy.prompt_settings import RENDERER_FILENAME, PromptSettings
from extracot_training.stages.chrpo.evaluation import (
    DevEvaluation,
    StageCallback,
    dev_lines,
    given_course,
)
from extracot_training.stages.chrpo.replay import Replay
from extracot_training.stages.chrpo.report import report_of
from extracot_training.stages.chrpo.scoring import Scorer
from extracot_training.stages.chrpo.tasks import Task, Tasks, read_tasks, schedule
from extracot_training.stages.chrpo.trainer import ChrpoTrainer, Rewards

CHECKPOINTS = "checkpoints"
LOG = "log.jsonl"
# What the trainer writes beside a model that is a pickle, or of no use to anyone.
NOT_PUBLISHED = ("training_args.bin", "README.md")


def run(config: ChrpoConfig, *, force: bool = False) -> Outcome:
    """Stage ``chrpo``."""
    inputs = {
        "rows": rows_file(config.input),
        "renderer": Path(config.model) / RENDERER_FILENAME,
        **({} if config.dev is None else {"dev": rows_file(config.dev)}),
        **({} if config.replay is None else {"replay": rows_file(config.replay.rows)}),
        **model_inputs(config.model),
    }
    return run_stage_together(
        "chrpo",
        config,
        inputs,
        lambda stage: _work(config, stage),
        force=force,
        cpu=config.device == "cpu",
    )


def _work(config: ChrpoConfig, stage: StageRun) -> Counts:
    if config.threads:
        torch.set_num_threads(config.threads)
    arguments = grpo_arguments(config, stage.folder)
    prompt = PromptSettings.load(Path(config.model))
    if not prompt.policy:
        raise ConfigError("this model has no policy token (renderer.json)", key="model")
    model, tokenizer, tokens = load_policy_model(
        config.model,
        prompt,
        seed=config.seed,
        dtype="bfloat16" if config.precision == "pure_bf16" else "float32",
        attention=config.attention,
    )
    tokenizer.pad_token_id = pad_id(tokenizer)
    maker = PromptMaker(tokenizer, prompt)
    train, dev = _read(config, maker, prompt)
    trainer = make_trainer(
        config,
        (model, tokenizer, tokens),
        prompt,
        train,
        dev.chosen,
        arguments=arguments,
        log=stage.folder / LOG,
    )
    _train(config, trainer, stage.folder)
    counts = {"steps": config.steps, "problems": len(train.chosen), "left_out": train.left_out}
    if is_first():
        prompt.save(stage.folder)
        shutil.rmtree(stage.folder / CHECKPOINTS, ignore_errors=True)
        evaluations = dev_lines(stage.folder / LOG)
        given = given_course(stage.folder / LOG)
        figures = {**counts, "dev": evaluations, "given": given}
        stage.report(report_of(config, counts, evaluations, given), figures)
    return counts


def _read(config: ChrpoConfig, maker: PromptMaker, prompt: PromptSettings) -> tuple[Tasks, Tasks]:
    train = read_tasks(
        config.input,
        config.split,
        maker,
        levels=prompt.ratios,
        unsolved=config.unsolved,
        at_levels=config.given_share > 0,
    )
    dev = read_tasks(
        config.dev or config.input,
        config.dev_split,
        maker,
        levels=prompt.ratios,
        limit=config.evaluation.problems,
    )
    return train, dev


def make_trainer(
    config: ChrpoConfig,
    policy: tuple[Any, Any, ControlTokens],
    prompt: PromptSettings,
    train: Tasks,
    dev: Sequence[Task],
    *,
    arguments: GRPOConfig,
    log: Path,
) -> ChrpoTrainer:
    """The trainer of ``policy`` (model, tokenizer, tokens), which evaluates on ``dev``."""
    model, tokenizer, tokens = policy
    scorer = Scorer(ReplyReader(tokenizer, prompt, tokens), config.objective)
    tasks = {task.key: task for task in (*train.chosen, *train.given)}
    callback = StageCallback(config, log, DevEvaluation(config, dev, scorer, prompt.ratios))
    order = schedule(
        train.chosen,
        config.steps * config.prompts * world_size(),
        config.seed,
        given=train.given,
        share=config.given_share,
    )
    trainer = ChrpoTrainer(
        config,
        tasks,
        Rewards(tasks, scorer),
        tokens,
        prompt.ratios,
        _replay(config, prompt, tokens, tokenizer),
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": order}),
        processing_class=tokenizer,
        callbacks=[callback],
    )
    callback.trainer = trainer
    return trainer


def _replay(
    config: ChrpoConfig, prompt: PromptSettings, tokens: ControlTokens, tokenizer: Any
) -> Replay | None:
    if config.replay is None:
        return None
    rows = list(read_rows(config.replay.rows, MixedRow))
    folder = config.replay.rows
    check_mixed_rows(folder, rows, prompt, tokenizer, tokens, model=config.model)
    return Replay(config.replay, rows, seed=config.seed, pad_id=tokenizer.pad_token_id)


def _train(config: ChrpoConfig, trainer: ChrpoTrainer, folder: Path) -> None:
    if config.rollouts.backend == "generate" and (
        trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    ):
        raise ConfigError("sharded weights want backend trl", key="rollouts.backend")
    checkpoint = last_checkpoint(folder / CHECKPOINTS)
    if trainer.is_world_process_zero():
        if checkpoint is None:
            (folder / LOG).unlink(missing_ok=True)
        else:
            cut_log(folder / LOG, step_of(checkpoint) // config.iterations)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.accelerator.wait_for_everyone()
    made = folder / CHECKPOINTS / "final"
    trainer.save_model(str(made))
    if trainer.is_world_process_zero():

        def move(target: Path) -> None:
            for path in made.iterdir():
                if path.name not in NOT_PUBLISHED:
                    path.replace(target / path.name)

        publish_folder(folder, move)
    trainer.accelerator.wait_for_everyone()


def grpo_arguments(config: ChrpoConfig, folder: Path) -> GRPOConfig:
    """TRL's arguments. Raises :class:`ConfigError` for one of ``config.trainer`` that TRL does not
    know, or that is a setting of ours."""
    rows = config.prompts * config.group
    micro = config.micro_batch or rows
    ours: dict[str, Any] = {
        "output_dir": str(folder / CHECKPOINTS),
        "seed": config.seed,
        "max_steps": config.steps * config.iterations,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.schedule,
        "warmup_steps": config.warmup,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": rows // micro,
        "num_generations": config.group,
        "num_iterations": config.iterations,
        "max_completion_length": config.rollouts.max_tokens,
        "temperature": config.rollouts.temperature,
        "beta": config.kl,
        "epsilon": config.clip,
        # Every token of a round weighs the same: a level token does not lose by a long reply.
        "loss_type": "dapo",
        # Both are done by chrpo.advantage; TRL's own advantages are not used.
        "scale_rewards": "none",
        "reward_weights": [1.0, 0.0],
        "shuffle_dataset": False,
        "gradient_checkpointing": config.gradient_checkpointing,
        "bf16": config.precision == "bf16",
        "use_cpu": config.device == "cpu",
        "save_strategy": "steps" if config.checkpoint_every else "no",
        "save_steps": (config.checkpoint_every or 1) * config.iterations,
        "save_total_limit": 2,
        "logging_steps": config.iterations,
        "logging_nan_inf_filter": False,
        "report_to": list(config.report_to) or "none",
        "run_name": config.run_name,
        "disable_tqdm": not sys.stderr.isatty(),
        "dataloader_pin_memory": torch.cuda.is_available() and config.device != "cpu",
    }
    known = [field.name for field in dataclasses.fields(GRPOConfig)]
    for name in config.trainer:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ConfigError(f"TRL's GRPOConfig has no {name!r}{hint}", key=f"trainer.{name}")
        if name in ours:
            raise ConfigError(f"{name!r} follows from other settings", key=f"trainer.{name}")
    return GRPOConfig(**ours, **config.trainer)
