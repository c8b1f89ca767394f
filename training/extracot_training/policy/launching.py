"""Several processes for one training on this machine: what cannot work is said before any starts.

A training is started as one command. With ``processes: 8`` that command becomes torchrun, or
accelerate where ``accelerate`` names a file that shards the weights, and each of its processes runs
the same command again. One process on a machine of several GPUs sees the first of them only: the
trainers would otherwise spread a batch over all, which these losses are not made for. A launcher of
the user's own (``accelerate launch``, torchrun, SLURM) is left to do its work.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from extracot_training.errors import ConfigError
from extracot_training.pipeline.distributed import WORLD_SIZE, world_size
from extracot_training.pipeline.parents import die_with_parent
from extracot_training.pipeline.stage import Manifest
from extracot_training.policy.precision import check_precision
from extracot_training.policy.pretrained import is_path
from extracot_training.policy.trackers import check_trackers
from extracot_training.policy.training_settings import TrainingSettings

VISIBLE = "CUDA_VISIBLE_DEVICES"
SHARDING = ("FSDP", "DEEPSPEED")
MODULE = "extracot_training.cli"
# Set in what a launch starts, to the launcher's process: one of accelerate's has no WORLD_SIZE.
LAUNCHED = "EXTRACOT_TRAIN_LAUNCHED"


def launch(
    config: TrainingSettings,
    arguments: Sequence[str],
    *,
    environment: MutableMapping[str, str] = os.environ,
    become: Callable[[str, list[str]], Any] = os.execv,
) -> None:
    """Return in a process that is to do the work; otherwise become the launcher of those.

    ``arguments`` are the command's own, stage first. Raises :class:`ConfigError` in one line where
    a launch cannot work.
    """
    if WORLD_SIZE in environment or LAUNCHED in environment:  # one of several already
        started = world_size()
        if config.processes not in (1, started):
            raise ConfigError(
                f"setting 'processes': {config.processes}, but a launcher has started {started}; "
                "leave it at 1 there",
                key="processes",
            )
        config.check_processes(started)
        launcher_id = environment.get(LAUNCHED, "")
        if launcher_id == str(os.getppid()):
            die_with_parent(int(launcher_id))  # one that is killed outright ends nobody itself
        return
    check_launch(config)
    alone = config.processes == 1 and config.accelerate is None
    if alone and config.device != "cpu":
        see_one_gpu(environment)  # before anything looks at a GPU: later it would not count
    check_place(config)
    if alone:
        return
    environment[LAUNCHED] = str(os.getpid())  # which the launcher takes over
    sys.stdout.flush()
    become(sys.executable, launcher(config, arguments))


def launcher(config: TrainingSettings, arguments: Sequence[str]) -> list[str]:
    """The command that starts the processes, from the interpreter on."""
    count, module = str(config.processes), ["-m", MODULE, *arguments]
    if config.accelerate is None:
        rendezvous = ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]
        return [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}",
                *rendezvous, *module]  # fmt: skip
    return [sys.executable, "-m", "accelerate.commands.launch",
            "--config_file", str(config.accelerate), "--num_processes", count,
            "--num_machines", "1", "--main_process_port", "0", *module]  # fmt: skip


def see_one_gpu(environment: MutableMapping[str, str] = os.environ) -> None:
    """Show this process the first GPU alone of those that it may use."""
    seen = environment.get(VISIBLE)
    environment[VISIBLE] = "0" if seen is None else seen.split(",")[0]


def check_launch(config: TrainingSettings, gpus: int | None = None) -> None:
    """Raises :class:`ConfigError` in one line for what a launch would fail of, seconds or hours
    later: a batch that cannot be shared out, too few ``gpus`` (``None``: counted here), a file or
    package that is missing, a tracker among them."""
    config.check_processes(config.processes)
    check_trackers(config.report_to)
    kind = "NO" if config.accelerate is None else _check_accelerate(config, config.accelerate)
    config.check_launch(sharded=kind in SHARDING)
    if config.processes > 1 and config.device != "cpu":
        found = _count_gpus() if gpus is None else gpus
        if found < config.processes:
            raise ConfigError(
                f"setting 'processes': want at most {found}, the GPUs found here, not "
                f"{config.processes}; or set device to cpu"
                if found
                else "setting 'processes': no GPU was found here; want 1, or device cpu",
                key="processes",
            )


def check_place(config: TrainingSettings) -> None:
    """Raises :class:`ConfigError` for a precision that nothing here computes in, a model's folder
    that is none, or a disk without room for what is trained: the model, and in full two checkpoints
    of it and the next, less what an earlier run has written there. A training that has ended needs
    nothing."""
    out = config.out.absolute()
    found = Manifest.load_out(out)
    if found is not None and found.finished is not None:
        return
    check_precision(config)
    folder = Path(config.model)
    if is_path(config.model) and not folder.is_dir():
        raise ConfigError(f"setting 'model': {folder} is not there", key="model")
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ConfigError(
            f"setting 'model': {folder} has no config.json; has the stage that makes it ended?",
            key="model",
        )
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    needed = size * (2 if config.lora or not config.checkpoint_every else 10)
    needed -= sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    there = next(place for place in (out, *out.parents) if place.is_dir())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise ConfigError(
            f"setting 'out': {free / 2**30:.1f} GiB are free at {config.out}, and the model with "
            f"its checkpoints takes {needed / 2**30:.1f}; free some, or choose another folder",
            key="out",
        )


def sharding_of(file: Path) -> str:
    """What accelerate's configuration file does with the weights: ``FSDP``, ``DEEPSPEED``, or
    another of its names, ``NO`` included. Raises :class:`ConfigError` for no such file."""
    import yaml

    try:
        said = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(
            f"setting 'accelerate': cannot read {file} as YAML", key="accelerate"
        ) from error
    if not isinstance(said, dict) or "distributed_type" not in said:
        raise ConfigError(
            f"setting 'accelerate': {file} has no distributed_type; want a file as "
            "`accelerate config` writes it",
            key="accelerate",
        )
    return str(said["distributed_type"]).upper()


def _check_accelerate(config: TrainingSettings, file: Path) -> str:
    kind = sharding_of(file)
    if config.device == "cpu":
        raise ConfigError("setting 'accelerate': want null with device cpu", key="accelerate")
    if kind == "DEEPSPEED" and importlib.util.find_spec("deepspeed") is None:
        raise ConfigError(
            f"setting 'accelerate': {file} wants deepspeed; run: pip install --no-deps "
            "-r requirements/deepspeed.txt",
            key="accelerate",
        )
    return kind


def _count_gpus() -> int:
    import torch

    return torch.cuda.device_count()
