"""Stage ``chrpo``: from the model of stage sft and the measurements of stage reference.

The folder is then a Hugging Face model folder with ``renderer.json``. Several processes are started
by :mod:`extracot_training.policy.launching`.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import GRPOConfig

from extracot_training.config.chrpo import ChrpoConfig
from extracot_training.errors import ConfigError
from extracot_training.generation.rollout.base import PromptMaker, ReplyReader
from extracot_training.pipeline.checkpoints import LOG, log_lines
from extracot_training.pipeline.distributed import is_first, world_size
from extracot_training.pipeline.files import write_atomic
from extracot_training.pipeline.pictures import COURSE, course_picture
from extracot_training.pipeline.records import read_rows, rows_file
from extracot_training.pipeline.stage import Counts, StageResult, StageRun
from extracot_training.policy.adapters import adapter_config, save_merged
from extracot_training.policy.control_tokens import ControlTokens
from extracot_training.policy.loading import check_mixed_rows
from extracot_training.policy.mixed_rows import MixedRow
from extracot_training.policy.pretrained import pad_id
from extracot_training.policy.prompt_settings import RENDERER_FILENAME, PromptSettings
from extracot_training.policy.trainer import common_arguments, load_for, run_training, save, train
from extracot_training.stages.chrpo.choice import ChoiceState
from extracot_training.stages.chrpo.evaluation import (
    ChrpoLog,
    DevEvaluation,
    dev_lines,
    forced_course,
    price_course,
    redraw_figures,
)
from extracot_training.stages.chrpo.replay import Replay
from extracot_training.stages.chrpo.report import report_of
from extracot_training.stages.chrpo.scoring import RewardScorer
from extracot_training.stages.chrpo.tasks import Task, Tasks, read_tasks, schedule
from extracot_training.stages.chrpo.trainer import ChrpoTrainer, Rewards

# Of each round, in the picture of the course.
SHOWN = ("loss", "reward", "accuracy_choice", "accuracy_whole", "spent_choice", "price")
# Of TRL's GRPOConfig, where the configuration names nothing else. TRL's own default weighs a reply
# by the product over its tokens of how likely the model and vLLM hold them, and drops it beyond a
# bound: small differences add up, so long replies would go.
DEFAULTS = {"vllm_importance_sampling_mode": "token_truncate"}


def run(config: ChrpoConfig, *, force: bool = False) -> StageResult:
    """Stage ``chrpo``."""
    inputs = {
        "rows": rows_file(config.input),
        "renderer": Path(config.model) / RENDERER_FILENAME,
        **({} if config.dev is None else {"dev": rows_file(config.dev)}),
        **({} if config.replay is None else {"replay": rows_file(config.replay.rows)}),
    }
    return run_training("chrpo", config, inputs, lambda stage: _work(config, stage), force=force)


def _work(config: ChrpoConfig, stage: StageRun) -> Counts:
    arguments = grpo_arguments(config, stage.folder)
    prompt = PromptSettings.load(Path(config.model))
    if not prompt.policy:
        raise ConfigError("this model has no policy token (renderer.json)", key="model")
    model, tokenizer, tokens = load_for(config, prompt, stage)
    tokenizer.pad_token_id = pad_id(tokenizer)
    config.check_group(len(prompt.ratios))
    problems, dev = _read(config, PromptMaker(tokenizer, prompt), prompt)
    trainer = make_trainer(
        config,
        (model, tokenizer, tokens),
        prompt,
        problems,
        dev.chosen,
        arguments=arguments,
        folder=stage.folder,
    )
    if config.rollouts.backend == "generate" and trainer.sharded:
        raise ConfigError("sharded weights want backend trl", key="rollouts.backend")
    train(trainer, stage.folder, updates=config.iterations)
    save(
        trainer,
        stage.folder,
        partial(save_merged, trainer, prompt, config.model) if config.lora else None,
    )
    counts: dict[str, Any] = {
        "steps": config.steps,
        "prompts": config.prompts_each(world_size()) * world_size(),
        "problems": len(problems.chosen),
        "left_out": problems.left_out,
    }
    if config.rollouts.redraws:
        counts |= redraw_figures(stage.folder / LOG)
    if is_first():
        prompt.save(stage.folder)
        lines = log_lines(stage.folder / LOG)
        write_atomic(stage.folder / COURSE, course_picture(lines, SHOWN))
        evaluations = dev_lines(stage.folder / LOG)
        forced = forced_course(stage.folder / LOG)
        prices = price_course(stage.folder / LOG) if config.objective.kind == "chrpo" else []
        figures = {**counts, "dev": evaluations, "given": forced, "prices": prices}
        stage.report(report_of(config, counts, evaluations, forced, prices), figures)
    return counts


def _read(config: ChrpoConfig, maker: PromptMaker, prompt: PromptSettings) -> tuple[Tasks, Tasks]:
    train = read_tasks(
        config.input,
        config.split,
        maker,
        levels=prompt.ratios,
        which=config.needed,
        unsolved=config.unsolved,
        at_levels=config.given_share > 0,
    )
    dev = read_tasks(
        config.dev or config.input,
        config.dev_split,
        maker,
        levels=prompt.ratios,
        which=config.needed,
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
    folder: Path,
) -> ChrpoTrainer:
    """The trainer of ``policy`` (model, tokenizer, tokens), which evaluates on ``dev`` and logs
    into ``folder``."""
    model, tokenizer, tokens = policy
    scorer = RewardScorer(ReplyReader(tokenizer, prompt, tokens), config.objective)
    tasks = {task.key: task for task in (*train.chosen, *train.forced)}
    callback = ChrpoLog(config, folder, DevEvaluation(config, dev, scorer, prompt.ratios))
    order = schedule(
        train.chosen,
        config.steps * config.prompts_each(world_size()) * world_size(),
        config.seed,
        forced=train.forced,
        share=config.given_share,
    )
    trainer = ChrpoTrainer(
        config,
        tasks,
        Rewards(tasks, scorer),
        tokens,
        prompt.ratios,
        _replay(config, prompt, tokens, tokenizer),
        ChoiceState.of(config, tasks, train.measured, prompt.ratios),
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": order}),
        processing_class=tokenizer,
        callbacks=[callback],
        peft_config=adapter_config(config.lora, model) if config.lora else None,
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
    share = config.replay.policy_share
    return Replay(
        config.replay,
        rows,
        seed=config.seed,
        pad_id=tokenizer.pad_token_id,
        tokens=tokens,
        policy_share=(0.5 if config.stratified else 0.0) if share is None else share,
    )


def grpo_arguments(config: ChrpoConfig, folder: Path) -> GRPOConfig:
    """TRL's arguments. Raises :class:`ConfigError` for one of ``config.trainer`` that TRL does not
    know, or that is a setting of ours."""
    rows = config.prompts_each(world_size()) * config.group
    micro = config.micro_batch or rows
    ours: dict[str, Any] = {
        **common_arguments(config, folder),
        "max_steps": config.steps * config.iterations,
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
        "save_steps": (config.checkpoint_every or 1) * config.iterations,
        "logging_steps": config.iterations,
    }
    known = [field.name for field in dataclasses.fields(GRPOConfig)]
    for name in config.trainer:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ConfigError(f"TRL's GRPOConfig has no {name!r}{hint}", key=f"trainer.{name}")
        if name in ours:
            raise ConfigError(f"{name!r} follows from other settings", key=f"trainer.{name}")
    return GRPOConfig(**ours, **(DEFAULTS | config.trainer))
