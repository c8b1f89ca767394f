"""Several devices: accelerate takes the shipped configurations; two processes share a stage."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from safetensors.torch import load_file

from extracot_training.pipeline.distributed import is_first, world_size
from extracot_training.stages.sft.stage import run
from tests.training.tiny_policy import make_all, sft_config

CONFIGS = Path(__file__).parents[2] / "training" / "configs" / "accelerate"
NAMES = {"one_gpu": "NO", "fsdp2": "FSDP", "deepspeed_zero3": "DEEPSPEED"}


@pytest.mark.parametrize("name", NAMES)
def test_accelerate_reads_the_configuration(name: str) -> None:
    loaded = load_config_from_file(str(CONFIGS / f"{name}.yaml"))
    assert isinstance(loaded, ClusterConfig)
    assert str(loaded.distributed_type.value) == NAMES[name]
    assert loaded.mixed_precision == "bf16"
    # Every key is one that accelerate's launcher knows: it fails on others.
    written = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    for section in ("fsdp_config", "deepspeed_config"):
        assert getattr(loaded, section) == written.get(section, {})


@pytest.mark.parametrize("name", NAMES)
def test_accelerate_launch_takes_it(name: str) -> None:
    arguments = launch_command_parser().parse_args(
        ["--config_file", str(CONFIGS / f"{name}.yaml"), "-m", "extracot_training.cli", "sft"]
    )
    checked, defaults, _ = _validate_launch_command(arguments)
    assert checked.module
    assert checked.mixed_precision == "bf16"
    assert bool(checked.use_fsdp) == (name == "fsdp2")
    assert bool(checked.use_deepspeed) == (name == "deepspeed_zero3")
    assert not checked.use_fsdp or int(checked.fsdp_version) == 2
    assert checked.num_processes == (1 if name == "one_gpu" else 8)
    assert defaults is not None


def test_alone_a_process_is_the_first() -> None:
    assert world_size() == 1
    assert is_first()


def test_two_processes_make_what_one_makes(tmp_path: Path) -> None:
    """Two processes with half a batch each: one folder, the same losses and weights."""
    make_all(tmp_path)
    together = sft_config(tmp_path, out=tmp_path / "two", batch=2, accumulation=1, max_steps=4)
    flags = [f"{k}={json.dumps(v)}" for k, v in together.model_dump(mode="json").items()]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    command += ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]
    command += ["-m", "extracot_training.cli", "sft"]
    command += [flag for setting in flags for flag in ("--set", setting)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert finished.stdout.count("sft: done in ") == 1
    alone = run(sft_config(tmp_path, out=tmp_path / "one", batch=4, accumulation=1, max_steps=4))
    one, two = (
        load_file(alone.folder / "model.safetensors"),
        load_file(together.out / "model.safetensors"),
    )
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
    losses = [
        [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]
        for folder in (alone.folder, together.out)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert len(losses[0]) == 4
