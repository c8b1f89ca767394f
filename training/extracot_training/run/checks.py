"""What would end a run late, looked for before it begins: packages, trackers, memory, disk."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from extracot_training.config.load import load_config
from extracot_training.config.plan import Assumptions
from extracot_training.errors import StageError
from extracot_training.evaluation.serving import lacking
from extracot_training.policy.trackers import check_trackers
from extracot_training.run.options import VLLM, RunOptions
from extracot_training.run.recipe import Recipe
from extracot_training.run.spending import disk_fault


def has_vllm() -> bool:
    """Whether vLLM is installed."""
    return importlib.util.find_spec("vllm") is not None


def check_assumptions(options: RunOptions) -> None:
    """Raises :class:`ConfigError` for an assumption that is none."""
    load_config(Assumptions, None, options.assume, flag="--assume")


def check_packages(options: RunOptions, teacher: str) -> None:
    """Raises :class:`StageError` or ``ConfigError`` for a package that a stage would miss."""
    check_trackers(options.report_to)
    if teacher == VLLM and not has_vllm():
        raise StageError(
            "no row has a solution, so the model has to reason for itself, and that wants vllm: "
            "pip install 'extracot[cuda]', or name the solutions' key in --fields"
        )
    absent = lacking()
    if absent and options.serve:
        raise StageError(
            f"--serve: {absent} is not installed: pip install 'extracot[server,cuda]' (or "
            "[server,cpu])"
        )
    if absent and "evaluate" not in options.skip:
        raise StageError(
            f"stage evaluate serves the checkpoint, and {absent} is not installed: pip install "
            "'extracot[server,cuda]' (or [server,cpu]), or pass --skip evaluate"
        )


def rehearse(recipe: Recipe) -> int:
    """Save, merge and publish a small twin of the base model. Raises :class:`StageError`; loads
    torch, so for a process of its own."""
    from extracot_training.policy.prompt_settings import PromptSettings
    from extracot_training.policy.rehearsal import rehearse_saving
    from extracot_training.policy.training_settings import LoraSettings

    options = recipe.options
    prompt = PromptSettings(ratios=options.levels, policy=options.policy)
    kinds = {recipe.preset.lora_sft, *([recipe.preset.lora_chrpo] if options.chrpo else [])}
    for adapted in sorted(kinds):
        rehearse_saving(
            options.model, prompt, options.out, lora=LoraSettings() if adapted else None
        )
    return 0


def check_disk(recipe: Recipe) -> None:
    """Raises :class:`StageError` where the models will not fit beside what is not the run's."""
    out = recipe.options.out.absolute()
    there = next(folder for folder in (out, *out.parents) if folder.is_dir())
    written = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    room = shutil.disk_usage(there).free + written
    fault = disk_fault(recipe, room, Path(recipe.options.out))
    if fault:
        raise StageError(fault)
