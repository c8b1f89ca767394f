"""What a run takes, and what fits into the hours that it may take. Arithmetic of ``plan``, with
this machine's own speed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

from extracot_training.config.load import load_config
from extracot_training.config.plan import Assumptions
from extracot_training.errors import ConfigError
from extracot_training.planning.command import plan_of
from extracot_training.planning.costs import Cost
from extracot_training.planning.ledger import TEMPLATE
from extracot_training.planning.report import Planned
from extracot_training.planning.shape import GIB
from extracot_training.run.data import CHARACTERS, Data
from extracot_training.run.machine import Machine
from extracot_training.run.presets import Preset
from extracot_training.run.recipe import Effort, Recipe, Step

# Shares of the measured peak on a CPU: of a training, and of generating with and without vLLM.
# Assumed: the 140 tokens a second at which SmolLM2-135M was once trained on two cores are
# 0.11 TFLOP/s.
CPU_MFU, CPU_SERVED, CPU_SAMPLED = 0.5, 0.15, 0.15
# Times faster in bfloat16 where the CPU computes in it: training, and vLLM at 32 streams (measured
# with SmolLM2-135M, docs/experiments.md; much smaller models gain less).
BF16_TRAINS, BF16_SERVES = 2.4, 1.4
# Starting a stage, and starting the server, in hours.
START, SERVER = 20 / 3600, 90 / 3600
SHARES = (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.05, 0.03, 0.02, 0.01, 0.005)

# What a training takes less memory by.
LESS_MEMORY = {
    "sft": ("cutoff", "batch", "pass_tokens"),
    "chrpo": ("micro_batch", "rollouts.max_tokens", "evaluation.batch"),
}

Configured = tuple[Step, Any]


def assumptions(recipe: Recipe, machine: Machine) -> Assumptions:
    """What the plan takes for granted: the data's own lengths, this machine's own speed."""
    data, base = recipe.data, recipe.base
    known: dict[str, Any] = {
        "prompt_tokens": data.prompt + TEMPLATE, "weights": base.shape.weights,
        "characters": CHARACTERS,
    }  # fmt: skip
    if data.solutions:
        known |= {"reasoning_tokens": data.trace, "answer_tokens": 15.0,
                  "solved": 1.0}  # fmt: skip
    if machine.gpus:
        known |= {"gpu": machine.gpu, "gpu_gib": machine.gpu_gib}
    else:
        peak = machine.tflops * 1e12
        each = 2 * base.shape.weights
        trains, serves = (BF16_TRAINS, BF16_SERVES) if machine.bf16 else (1.0, 1.0)
        known |= {
            "gpu": "no GPU", "gpu_gib": machine.memory_gib, "peak_tflops": trains * machine.tflops,
            "mfu": CPU_MFU, "tokens_per_s": serves * CPU_SERVED * peak / each,
            "served_per_s": serves * CPU_SERVED * peak / each,
            "sampler_per_s": CPU_SAMPLED * peak / each,
            "dollars_per_hour": 0.0,
        }  # fmt: skip
    known = {
        name: value if isinstance(value, str) else float(f"{value:.4g}")
        for name, value in known.items()
    }
    return load_config(Assumptions, None, recipe.options.assume, under=known, flag="--assume")


def configured(recipe: Recipe, effort: Effort, config_of: Callable[[str], Any]) -> list[Configured]:
    """Every step with its checked settings, ``--set`` among them. Raises :class:`ConfigError`."""
    steps = recipe.steps(effort)
    changes = _changes(recipe.options.set, steps)
    found = []
    for step in steps:
        out = str(recipe.options.out / step.folder)
        try:
            plain = config_of(step.stage).model_validate(step.settings | {"out": out})
            known = plain.model_dump(mode="json", exclude_unset=True)
            found.append((step, _changed(config_of(step.stage), known, changes.get(step.name, []))))
        except ConfigError as error:
            raise ConfigError(f"{step.name}: {error}", key=error.key) from error
    return found


def _changed(model: type[Any], known: dict[str, Any], changes: Sequence[str]) -> Any:
    return load_config(model, None, changes, under=known)


def _changes(given: Sequence[str], steps: Sequence[Step]) -> dict[str, list[str]]:
    """``--set sft.epochs=2`` by the step or, for all of its steps, the stage that it names."""
    found: dict[str, list[str]] = {}
    for text in given:
        name, dot, rest = text.partition(".")
        named = [step for step in steps if name == step.name] or [
            step for step in steps if name == step.stage
        ]
        if not dot or "=" not in rest or not named:
            known = ", ".join(step.name for step in steps)
            raise ConfigError(f"--set {text}: want STAGE.KEY=VALUE; the stages are {known}")
        for step in named:
            found.setdefault(step.name, []).append(rest)
    return found


def planned(
    steps: Sequence[Configured], recipe: Recipe, assume: Assumptions, machine: Machine
) -> list[Planned]:
    """The plan, with the times of starting each stage; without GPUs all is the CPU's."""
    found = []
    models = {recipe.options.model: recipe.base.shape}
    plan = plan_of([(step.stage, config) for step, config in steps], assume, models)
    for (step, _), one in zip(steps, plan, strict=True):
        start = SERVER if step.stage == "evaluate" else START
        cost: Cost = replace(one.cost, hours=one.cost.hours + (0.0 if one.done else start))
        cost = cost if machine.gpus else replace(cost, gpus=0)
        found.append(replace(one, cost=cost, name=step.name))
    return found


def hours_of(plan: Sequence[Planned]) -> float:
    """All of it."""
    return sum(one.cost.hours for one in plan)


def fitting(
    recipe: Recipe, plan: Callable[[Effort], Sequence[Planned]], hours: float | None
) -> Effort:
    """The most that fits into ``hours``. Raises :class:`ConfigError` where nothing does."""
    least = 0.0
    for share in SHARES:
        effort = recipe.effort(share)
        if hours is None:
            return effort
        least = hours_of(plan(effort))
        if least <= hours:
            return effort
    least = ceil(least * 100) / 100
    raise ConfigError(
        f"--budget-hours {hours:g}: the least that does every stage takes {least:.2f} hours here; "
        "want that, or fewer problems, or --skip chrpo"
    )


def memory_fault(
    steps: Sequence[Configured], plan: Sequence[Planned], machine: Machine
) -> str | None:
    """Which training of ``steps``, in the order of ``plan``, needs more memory than there is."""
    room = machine.gpu_gib if machine.gpus else machine.memory_gib
    (step, config), worst = max(zip(steps, plan, strict=True), key=lambda pair: pair[1].cost.gib)
    if worst.cost.gib <= room:
        return None
    *names, last = (f"{step.name}.{key}" for key in LESS_MEMORY[step.stage])
    adapt = "pass --lora, or " if config.lora is None else ""
    return (
        f"{step.name} wants {worst.cost.gib:.1f} GiB, and "
        f"{'a GPU' if machine.gpus else 'this machine'} has {room:.1f}: {adapt}--set "
        f"{', '.join(names)} or {last} lower"
    )


def disk_needed(recipe: Recipe) -> float:
    """Bytes of the models that are left, and of one training's checkpoints (two and the next)."""
    weights, preset = recipe.base.shape.weights, recipe.preset
    size = 2 if preset.precision == "pure_bf16" else 4
    models = 2 + 2 * recipe.options.policy + recipe.options.chrpo
    in_full = not (preset.lora_sft and preset.lora_chrpo)
    return weights * size * (models + (9 if in_full else 1))


def disk_fault(recipe: Recipe, room: float, out: Path) -> str | None:
    """Too little room on the disk, in words; ``room``: bytes, those of this run included."""
    needed = disk_needed(recipe)
    if room >= needed:
        return None
    return (
        f"--out {out}: {room / GIB:.1f} GiB are free there, and models and checkpoints take "
        f"{needed / GIB:.1f}; free some, or pass --lora, or another folder"
    )


def rows_told(data: Data) -> str:
    """What is left of the file, in words."""
    lost = data.rows - data.problems
    bad = f", {len(data.skipped)} of them bad" if data.skipped else ""
    sizes = ", ".join(f"{size} {name}" for name, size in data.sizes.items() if size)
    away = f" ({lost} left out: duplicates{bad})" if lost else ""
    return f"{data.rows} rows, {data.problems} problems{away}: {sizes}"


def preset_told(preset: Preset, steps: Sequence[Configured]) -> str:
    """The configuration in words, as ``--set`` leaves it."""
    found = {step.name: config for step, config in steps}
    levels, chrpo = found["sft-fixed"], found.get("chrpo")
    rates = f"learning rate {levels.learning_rate:g}"
    if chrpo is not None:
        rates += f" (chrpo {chrpo.learning_rate:g})"
    rows = levels.global_batch or levels.batch * levels.accumulation * preset.processes
    return f"{preset.name}: {rows} rows a step, {levels.batch} at a time, {rates}"


def effort_told(steps: Sequence[Configured]) -> str:
    """What is spent where it is a matter of choice, in words, as ``--set`` and ``--skip`` leave
    it."""
    found = {step.name: config for step, config in steps}
    levels = found["sft-fixed"]
    spent = f"{levels.max_steps} steps" if levels.max_steps else f"{levels.epochs:g} epochs"
    parts = [f"{spent} on the levels"]
    if measured := found.get("reference-fixed") or found.get("reference"):
        many = "all" if measured.limit is None else measured.limit
        parts.append(f"{many} problems measured with {measured.k} replies per level")
    if chrpo := found.get("chrpo"):
        parts.append(f"{chrpo.steps} steps of chrpo")
    if judged := found.get("evaluate"):
        parts.append(f"{'all' if judged.limit is None else judged.limit} problems evaluated")
    return ", ".join(parts) + ", at most"
