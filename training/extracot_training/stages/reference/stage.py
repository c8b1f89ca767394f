"""Runs stage ``reference``: k replies per problem and level, verified; a row per problem.

Problems go in chunks that don't depend on what is there already, so that a cut run samples in the
same company as an uncut one and ends with the same rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from extracot_training.config.reference import ReferenceConfig
from extracot_training.errors import ConfigError, StageError
from extracot_training.generation.rollout.base import PromptMaker, Rollout, RolloutRequest
from extracot_training.generation.rollout.engines import open_rollouts
from extracot_training.generation.rollout.sampler import seed_of
from extracot_training.math_text.verify import equal, grader
from extracot_training.pipeline.progress import progress, warn_of_copies
from extracot_training.pipeline.records import (
    JsonlWriter,
    Problem,
    read_rows,
    rows_file,
    write_rows,
)
from extracot_training.pipeline.reference_rows import (
    LevelAttempt,
    LevelAttempts,
    ReferenceRow,
    with_estimates,
)
from extracot_training.pipeline.stage import Counts, StageResult, StageRun, run_stage
from extracot_training.policy.loading import load_policy_tokenizer
from extracot_training.policy.model_inputs import model_inputs
from extracot_training.policy.prompt_settings import RENDERER_FILENAME, PromptSettings
from extracot_training.stages.reference.report import figures_of, report_of


def run(config: ReferenceConfig, *, force: bool = False) -> StageResult:
    """Stage ``reference``."""
    inputs = {
        "problems": rows_file(config.input),
        "renderer": Path(config.model) / RENDERER_FILENAME,
        **model_inputs(config.model),
    }
    return run_stage("reference", config, inputs, lambda stage: _work(config, stage), force=force)


def _work(config: ReferenceConfig, stage: StageRun) -> Counts:
    if config.threads:
        import torch

        torch.set_num_threads(config.threads)
    warn_of_copies(config.drawing.temperature, config.k, "k")
    prompt = PromptSettings.load(Path(config.model))
    levels = _levels(config, prompt)
    problems = _problems(config)
    size = -(-config.backend.batch // config.k)
    chunks = [problems[at : at + size] for at in range(0, len(problems), size)]
    with JsonlWriter(stage.rows, ReferenceRow) as writer:
        waiting = [chunk for chunk in chunks if any(problem.id not in writer for problem in chunk)]
        if waiting:
            _sample(config, prompt, levels, waiting, writer, len(problems))
    # A run that was cut may have left its rows in another order.
    by_key = {row.key: row for row in read_rows(stage.rows, ReferenceRow)}
    rows = with_estimates([by_key[problem.id] for problem in problems], delta=config.delta)
    write_rows(stage.rows, rows)
    figures = figures_of(rows, resamples=1000, seed=config.seed) | {"grader": grader()}
    stage.report(report_of(figures, config), figures)
    solved = sum(row.unanimous for row in rows)
    return {"problems": len(rows), "rollouts": len(rows) * len(levels) * config.k,
            "solved_by_a_level": solved}  # fmt: skip


def _sample(
    config: ReferenceConfig,
    prompt: PromptSettings,
    levels: Sequence[float],
    chunks: Sequence[Sequence[Problem]],
    writer: JsonlWriter,
    total: int,
) -> None:
    tokenizer, _ = load_policy_tokenizer(config.model, prompt)
    maker = PromptMaker(tokenizer, prompt)
    backend = open_rollouts(config.backend, config.model, prompt, config.drawing)
    each = len(levels) * config.k
    done = total - sum(map(len, chunks))
    try:
        with progress(total * each, "rollouts", done=done * each) as bar:
            for chunk in chunks:
                rollouts: dict[str, Rollout] = {}
                for rollout in backend.run(list(_requests(config, maker, levels, chunk))):
                    rollouts[rollout.key] = rollout
                    bar.update()
                for problem in chunk:
                    if problem.id not in writer:
                        writer.write(_row(config, problem, levels, rollouts))
    finally:
        backend.close()


def _levels(config: ReferenceConfig, prompt: PromptSettings) -> tuple[float, ...]:
    """The levels to sample, ascending. Raises :class:`ConfigError` if the model lacks one."""
    levels = config.levels or prompt.ratios
    known = ", ".join(f"{ratio:g}" for ratio in prompt.ratios)
    for level in levels:
        if level not in prompt.ratios:
            raise ConfigError(f"level {level:g}: the model knows {known}", key="levels")
    if max(levels) != 1.0:
        raise ConfigError(
            "want level 1.0 among the levels: others are measured by it", key="levels"
        )
    return tuple(sorted(set(levels)))


def _problems(config: ReferenceConfig) -> list[Problem]:
    taken: Counter[str] = Counter()
    chosen = []
    for problem in read_rows(config.input, Problem):
        if problem.split in config.splits and taken[problem.split] < (config.limit or 10**12):
            taken[problem.split] += 1
            chosen.append(problem)
    for split in config.splits:
        if not taken[split]:
            raise StageError(f"{config.input}: no problem of split {split!r}")
    return chosen


def _requests(
    config: ReferenceConfig, maker: PromptMaker, levels: Sequence[float], chunk: Sequence[Problem]
) -> Iterator[RolloutRequest]:
    for problem in chunk:
        for level in levels:
            ids = maker.level(problem.question, level)
            for number in range(config.k):
                key = _key(problem, level, number)
                yield RolloutRequest(
                    key, problem.question, ids, level, seed_of(config.seed, "reference", key)
                )


def _row(
    config: ReferenceConfig, problem: Problem, levels: Sequence[float], rollouts: dict[str, Rollout]
) -> ReferenceRow:
    attempts = [
        LevelAttempts(
            level=level,
            attempts=[
                _attempt(rollouts[_key(problem, level, number)], problem.answer)
                for number in range(config.k)
            ],
        )
        for level in levels
    ]
    fields: dict[str, Any] = problem.model_dump(include={"question", "split", "family", "steps"})
    fields |= {"problem_id": problem.id, "gold": problem.answer, "asked": problem.asked}
    return ReferenceRow.measured(attempts, **fields)


def _attempt(rollout: Rollout, gold: str) -> LevelAttempt:
    right = rollout.closed and rollout.boxed is not None and equal(rollout.boxed, gold)
    return LevelAttempt(
        correct=right,
        closed=rollout.closed,
        boxed=rollout.boxed,
        tokens=rollout.reasoning_tokens,
        total=rollout.total_tokens,
    )


def _key(problem: Problem, level: float, number: int) -> str:
    return f"{problem.id}@{level:g}/{number}"
