"""What the folder of a run keeps of how it was made: ``run.json`` and ``configs/``.

The same command finds its configurations there and goes on with them, also where one was changed by
hand; another command is told what differs.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from extracot_training.config.load import load_config
from extracot_training.errors import StageError
from extracot_training.pipeline.files import write_atomic
from extracot_training.pipeline.records import read_json
from extracot_training.pipeline.stage import Manifest
from extracot_training.run.options import RunOptions
from extracot_training.run.recipe import FSDP, Recipe, Step
from extracot_training.run.spending import Configured

RUN = "run.json"
CONFIGS = "configs"
FSDP_FILE = "fsdp2.yaml"
FIRST = ("problems", "teach")
# What may differ when a run is gone on with.
FREE = frozenset({"out", "assume", "serve"})


class Remembered(BaseModel, extra="forbid"):
    """``run.json``. ``steps`` is empty until the configurations are written."""

    options: dict[str, Any]
    problems: str
    steps: list[tuple[str, str]] = []


def recall(options: RunOptions, sha256: str) -> Remembered | None:
    """What an earlier run left; ``None`` where there was none. Raises :class:`StageError` for a
    folder of other options, or of nothing that is known."""
    folder = options.out
    if folder.exists() and not folder.is_dir():
        raise StageError(f"--out {folder}: is a file; choose another folder")
    if not (folder / RUN).is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise StageError(f"--out {folder}: not empty and no run's folder; choose another one")
        return None
    found = read_json(folder / RUN, Remembered)
    now = options.model_dump(mode="json")
    differing = [
        name for name, before in found.options.items()
        if name not in FREE and before != now.get(name)
    ]  # fmt: skip
    if not found.steps and (differing or found.problems != sha256):
        _clear(folder)  # it ended within seconds; nothing but its own first stages is there
        return None
    for name in differing:
        before = found.options[name]
        flag = "--" + name.replace("_", "-")
        raise StageError(
            f"--out {folder}: was begun with another {flag} ({_short(before)}, now "
            f"{_short(now.get(name))}); choose another folder, or give that again"
        )
    if found.problems != sha256:
        raise StageError(
            f"--out {folder}: {options.problems} has changed since; choose another folder"
        )
    return found


def remember(options: RunOptions, sha256: str, steps: Sequence[Configured] = ()) -> None:
    """Write ``run.json``, after the configurations of ``steps``."""
    folder = options.out
    for step, config in steps:
        write_config(folder, step, config)
    kept = Remembered(
        options=options.model_dump(mode="json"),
        problems=sha256,
        steps=[(step.name, step.stage) for step, _ in steps],
    )
    write_atomic(folder / RUN, kept.model_dump_json(indent=2) + "\n")


def write_sharding(recipe: Recipe) -> None:
    """Write accelerate's file for weights that are shared out, which plans read, too."""
    if recipe.preset.sharded:
        write_atomic(recipe.options.out / CONFIGS / FSDP_FILE, FSDP)


def write_config(folder: Path, step: Step, config: Any) -> None:
    """Write the configuration of one step, as its stage reads it."""
    settings = config.model_dump(mode="json", exclude_unset=True)
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    path = config_file(folder, step.name)
    write_atomic(path, f"# extracot-train {step.stage} --config {path}\n{text}")


def reload(
    options: RunOptions, kept: Remembered, config_of: Callable[[str], Any]
) -> list[Configured]:
    """The steps as their files say now; those of a folder that was moved since are written anew.
    Raises :class:`ConfigError` for one that does not."""
    places = _moved(options, kept)
    found: list[Configured] = []
    for name, stage in kept.steps:
        config = load_config(config_of(stage), config_file(options.out, name))
        if places:
            settings = config.model_dump(mode="json", exclude_unset=True)
            config = load_config(config_of(stage), None, under=_replaced(settings, places))
        found.append((Step(name, stage, {}), config))
    if places:
        for step, _ in found:
            _mend_manifest(options.out / step.folder, places)
        remember(options, kept.problems, found)
    return found


def _moved(options: RunOptions, kept: Remembered) -> dict[str, str]:
    """Where each folder of the run was, and where it is now; none where it has not moved."""
    before, now = Path(kept.options["out"]), options.out
    if before == now:
        return {}
    folders = [CONFIGS, *(Step(name, stage, {}).folder for name, stage in kept.steps)]
    return {str(before / folder): str(now / folder) for folder in folders}


def _replaced(value: Any, places: dict[str, str]) -> Any:
    """``value`` with every path in it that is one of ``places``, or below one, as it is now."""
    if isinstance(value, dict):
        return {key: _replaced(one, places) for key, one in value.items()}
    if isinstance(value, list):
        return [_replaced(one, places) for one in value]
    if isinstance(value, str):
        first = next((old for old in places if f"{value}/".startswith(f"{old}/")), None)
        return value if first is None else places[first] + value[len(first) :]
    return value


def _mend_manifest(folder: Path, places: dict[str, str]) -> None:
    """What a stage says that it was made with: a path elsewhere would be another setting."""
    found = Manifest.load(folder)
    if found is not None:
        changes = {key: _replaced(getattr(found, key), places) for key in ("config", "decisive")}
        found.model_copy(update=changes).save(folder)


def config_file(out: Path, step: str) -> Path:
    """Where the configuration of a step lies."""
    return out / CONFIGS / f"{step}.yaml"


def _clear(folder: Path) -> None:
    for name in (CONFIGS, *FIRST):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / RUN).unlink()


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
