"""``extracot-train run``: looks at everything first, says what it takes, then runs every stage.

What can be wrong is found before anything is spent: rows, packages, the model, the disk, an earlier
run's other flags. Each stage is then the same command that its configuration names.
"""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from extracot_training.errors import StageError
from extracot_training.evaluation.serving import become_server, served
from extracot_training.pipeline.parents import die_with_parent
from extracot_training.pipeline.stage import lacks_rows
from extracot_training.planning.ledger import finished
from extracot_training.planning.report import Planned, report_of
from extracot_training.run import checks
from extracot_training.run.children import in_child
from extracot_training.run.data import Data, read_data, teacher_of
from extracot_training.run.ending import MEASURED_REFUSED, ending, publish_measured
from extracot_training.run.machine import Machine, look
from extracot_training.run.options import OWN, RunOptions, read
from extracot_training.run.presets import preset_of
from extracot_training.run.recipe import Effort, Recipe, Step
from extracot_training.run.remembered import (
    Remembered,
    config_file,
    recall,
    reload,
    remember,
    write_config,
    write_sharding,
)
from extracot_training.run.spending import (
    Configured,
    assumptions,
    configured,
    effort_told,
    fitting,
    memory_fault,
    planned,
    preset_told,
    rows_told,
)

# What a stage's error ends with, so that one line says what is wrong and how to go on.
AFTER_ERROR = "EXTRACOT_TRAIN_AFTER_ERROR"
GOES_ON = "; then the same `extracot-train run` command goes on from here"
PRELOADED = "extracot_training.stages.chrpo.stage"
SERVER_WAIT_S = 900.0

Main = Callable[[Sequence[str]], int]
ConfigOf = Callable[[str], type[Any]]


@dataclass(frozen=True, slots=True)
class Run:
    """A run that was looked at. ``main`` is the command line of a stage."""

    options: RunOptions
    data: Data
    recipe: Recipe
    machine: Machine
    main: Main
    config_of: ConfigOf

    def plan(self, steps: Sequence[Configured]) -> list[Planned]:
        """What the steps take."""
        return planned(steps, self.recipe, assumptions(self.recipe, self.machine), self.machine)

    def configured(self, effort: Effort) -> list[Configured]:
        """Every step at this effort, checked."""
        return configured(self.recipe, effort, self.config_of)


def main(argv: Sequence[str], config_of: ConfigOf, stage_main: Main) -> int:
    """The exit code. Raises :class:`~extracot_training.errors.TrainingError` in one line."""
    options, plan_only = read(argv)
    data = read_data(options)
    if plan_only:
        with tempfile.TemporaryDirectory(prefix="extracot-plan-") as scratch:
            changes = {"out": Path(scratch) / "plan", "name": options.served_name}
            other = options.model_copy(update=changes)
            run = _looked(other, data, config_of, stage_main)
            if not (code := _first(run)):
                _told(run)
            return code
    kept = recall(options, data.sha256)
    run = _looked(options, data, config_of, stage_main)
    if not run.machine.gpus:
        _preload()
    if kept is None:
        remember(options, data.sha256)
    steps = _steps(run, kept)
    if isinstance(steps, int):
        return steps
    code = _all(run, steps)
    if options.serve and not code:
        become_server(options.out / "published")
    return code


def _looked(options: RunOptions, data: Data, config_of: ConfigOf, stage_main: Main) -> Run:
    checks.check_assumptions(options)
    teacher = teacher_of(options, data)
    checks.check_packages(options, teacher)
    machine, base = look(options.model, gpus=options.gpus, cpu=options.device == "cpu")
    preset = preset_of(base.shape, machine, lora=options.lora, vllm=checks.has_vllm())
    run = Run(
        options, data, Recipe(options, data, base, preset, teacher), machine, stage_main, config_of
    )
    run.configured(Effort.of(preset, 1.0))  # settings that are wrong are said now
    return run


def _steps(run: Run, kept: Remembered | None) -> list[Configured] | int:
    """The steps as they were written down, or new ones; an exit code where a first stage fails."""
    if kept is not None and kept.steps:
        print(f"goes on in {run.options.out}, by its {len(kept.steps)} configurations")
        return reload(run.options, kept, run.config_of)
    checks.check_disk(run.recipe)
    print(f"can {run.options.model} be saved, merged and published?", flush=True)
    if code := in_child("rehearsal", partial(checks.rehearse, run.recipe), {}):
        return code
    if code := _first(run):
        return code
    steps = run.configured(_told(run))
    remember(run.options, run.data.sha256, steps)
    return steps


def _first(run: Run) -> int:
    """The stages that take seconds, so that the rest is planned by real rows."""
    write_sharding(run.recipe)
    light = ["problems", *(["teach"] if run.recipe.teacher == OWN else [])]
    for step, config in run.configured(Effort.of(run.recipe.preset, 1.0)):
        if step.name in light:
            write_config(run.options.out, step, config)
            if code := _stage(run, step):
                return code
    return 0


def _told(run: Run) -> Effort:
    """Print what it takes; what is spent. Raises :class:`ConfigError` for what cannot fit."""
    effort = fitting(
        run.recipe, lambda one: run.plan(run.configured(one)), run.options.budget_hours
    )
    steps = run.configured(effort)
    plan = run.plan(steps)
    print(f"\nproblems: {rows_told(run.data)}")
    print(f"machine: {run.machine.name}")
    print(f"configuration: {preset_told(run.recipe.preset, steps)}")
    hours = run.options.budget_hours
    chosen = f"chosen for {hours:g} hours" if hours else "chosen"
    print(f"{chosen}: {effort_told(steps)}\n")
    print(report_of(plan, assumptions(run.recipe, run.machine)), end="\n\n", flush=True)
    if fault := memory_fault(steps, plan, run.machine):
        raise StageError(fault)
    return effort


def _all(run: Run, steps: Sequence[Configured]) -> int:
    began = time.monotonic()
    for step, config in steps:
        if step.name == "measured":
            code = in_child("publish", partial(publish_measured, config), _environment())
            if code == MEASURED_REFUSED:
                continue
        elif step.stage == "evaluate" and (not finished(config.out) or lacks_rows(config)):
            code = _evaluate(run, step)
        else:
            code = _stage(run, step)
        if code:
            return code
        print(f"[{time.monotonic() - began:.0f} s in all]", flush=True)
    print(ending(run.options, steps, run.data), flush=True)
    return 0


def _stage(run: Run, step: Step, *further: str) -> int:
    file = str(config_file(run.options.out, step.name))
    argv = [step.stage, "--config", file, *further]
    print(f"{step.name}: extracot-train {step.stage} --config {file}", flush=True)
    return in_child(step.name, lambda: run.main(argv), _environment())


def _evaluate(run: Run, step: Step) -> int:
    """Serve the draft while it is measured."""
    folder = run.options.out / "published"
    print(f"serving {folder} to measure it", flush=True)
    log = run.options.out / "serve.log"
    begin = partial(die_with_parent, os.getpid())
    with served(folder, (), SERVER_WAIT_S, log=log, begin=begin) as url:
        return _stage(run, step, "--set", f"base_url={url}/v1")


def _environment() -> dict[str, str]:
    return {AFTER_ERROR: GOES_ON, "TOKENIZERS_PARALLELISM": os.environ.get(
        "TOKENIZERS_PARALLELISM", "false")}  # fmt: skip


def _preload() -> None:
    """Import what most stages need, once; on a GPU each process does it for itself, since what is
    imported there may look at the GPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TRL's of a newer vLLM, which is not used here
        import_module(PRELOADED)
