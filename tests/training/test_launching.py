"""Several processes: what a launch becomes, what is refused before it, and that two processes do
what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from extracot_training.config.chrpo import ChrpoConfig
from extracot_training.config.sft import SftConfig
from extracot_training.errors import ConfigError, StageError
from extracot_training.pipeline.checkpoints import LOG
from extracot_training.pipeline.stage import Manifest, check_settings
from extracot_training.policy.launching import (
    check_launch,
    check_place,
    launch,
    launcher,
    sharding_of,
)
from extracot_training.policy.training_settings import TrainingSettings
from tests.training import tiny_chrpo, tiny_policy

CONFIGS = Path(__file__).parents[2] / "training" / "configs"
ZERO3 = CONFIGS / "accelerate" / "deepspeed_zero3.yaml"
FSDP2 = CONFIGS / "accelerate" / "fsdp2.yaml"


# Not bf16, the default, which processors without instructions for it refuse.
ANYWHERE = {"input": "i", "model": "m", "out": "o", "precision": "fp32"}


def sft(**settings: Any) -> SftConfig:
    return SftConfig.model_validate({**ANYWHERE, **settings})


def chrpo(**settings: Any) -> ChrpoConfig:
    return ChrpoConfig.model_validate({**ANYWHERE, **settings})


def launched(config: TrainingSettings, environment: dict[str, str]) -> list[str] | None:
    """The command that a launch becomes, ``None`` where this process does the work."""
    became: list[list[str]] = []
    launch(config, ["sft", "--config", "x.yaml"], environment=environment,
           become=lambda _, command: became.append(command))  # fmt: skip
    return became[0] if became else None


@pytest.mark.parametrize(
    ("seen", "left"), [(None, "0"), ("2,3", "2"), ("", ""), ("GPU-a,GPU-b", "GPU-a")]
)
def test_one_process_sees_one_gpu(seen: str | None, left: str) -> None:
    environment = {} if seen is None else {"CUDA_VISIBLE_DEVICES": seen}
    assert launched(sft(), environment) is None
    assert environment["CUDA_VISIBLE_DEVICES"] == left


def test_one_process_on_a_cpu_changes_nothing() -> None:
    environment: dict[str, str] = {}
    assert launched(chrpo(device="cpu"), environment) is None
    assert environment == {}


def test_several_processes_become_torchrun() -> None:
    command = launched(sft(device="cpu", processes=3), {})
    assert command is not None
    assert command[:3] == [sys.executable, "-m", "torch.distributed.run"]
    assert "--nproc-per-node=3" in command
    assert command[-5:] == ["-m", "extracot_training.cli", "sft", "--config", "x.yaml"]


def test_sharded_weights_become_accelerate() -> None:
    command = launcher(sft(processes=8, accelerate=FSDP2), ["sft"])
    assert command[1:5] == ["-m", "accelerate.commands.launch", "--config_file", str(FSDP2)]
    assert command[command.index("--num_processes") + 1] == "8"


def test_a_started_process_does_its_work() -> None:
    config = sft(device="cpu", processes=2)
    environment: dict[str, str] = {}
    assert launched(config, environment) is not None
    assert launched(config.model_copy(update={"processes": 1}), environment) is None, "no circle"


def test_another_launchers_count_is_held_against_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match="a launcher has started 4"):
        launch(sft(processes=2), ["sft"])
    launch(sft(processes=4), ["sft"])
    with pytest.raises(ConfigError, match=r"want a multiple of batch x processes, 2 x 4 = 8"):
        launch(sft(global_batch=12), ["sft"])


@pytest.mark.parametrize(
    ("config", "gpus", "message"),
    [
        (sft(processes=8), 2, "setting 'processes': want at most 2, the GPUs found here, not 8"),
        (chrpo(processes=2), 0, "setting 'processes': no GPU was found here"),
        (sft(processes=3, global_batch=16), 8, "'global_batch': want a multiple of batch x proc"),
        (chrpo(processes=3, global_prompts=16), 8, "'global_prompts': want a multiple of proc"),
        (
            chrpo(processes=2, global_prompts=8, group=10, micro_batch=16),
            2,
            "'micro_batch': want a divisor of the rows of a process, 4 x 10 = 40, not 16",
        ),
        (sft(processes=2, device="cpu", accelerate=FSDP2), 0, "want null with device cpu"),
        (sft(processes=2, accelerate="none.yaml"), 2, "cannot read none.yaml"),
        (
            chrpo(processes=2, accelerate=FSDP2, lora={}),
            2,
            "'lora': want null where weights are sharded",
        ),
        (
            chrpo(processes=2, accelerate=FSDP2),
            2,
            "'rollouts.backend': sharded weights want backend trl",
        ),
    ],
)
def test_what_cannot_work_is_said_before_anything_starts(
    config: TrainingSettings, gpus: int, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_launch(config, gpus)
    assert message in str(caught.value)


def test_deepspeed_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extracot_training.policy.launching.importlib.util.find_spec",
                        lambda name: None)  # fmt: skip
    with pytest.raises(ConfigError, match=r"wants deepspeed; .*requirements/deepspeed.txt"):
        check_launch(sft(accelerate=ZERO3), 1)
    with pytest.raises(ConfigError, match="wants vllm"):
        check_launch(chrpo(rollouts={"backend": "trl"}, trainer={"use_vllm": True}), 1)


def test_a_file_that_shards_nothing_known(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("processes: 2\n")
    with pytest.raises(ConfigError, match="has no distributed_type"):
        sharding_of(tmp_path / "a.yaml")
    assert [sharding_of(file) for file in (ZERO3, FSDP2)] == ["DEEPSPEED", "FSDP"]


@pytest.mark.parametrize("processes", [1, 2, 8])
def test_the_global_batch_is_the_same_on_any_number_of_processes(processes: int) -> None:
    assert sft(batch=2, global_batch=128).passes(processes) * 2 * processes == 128
    assert chrpo(global_prompts=32).prompts_each(processes) * processes == 32


def test_without_a_global_batch_each_process_has_its_own() -> None:
    assert sft(accumulation=8).passes(4) == 8
    assert chrpo(prompts=16).prompts_each(4) == 16


def on_two(stage: str, config: TrainingSettings) -> subprocess.CompletedProcess[str]:
    """The stage by its command, on two processes of the CPU."""
    flags = [f"{k}={json.dumps(v)}" for k, v in config.model_dump(mode="json").items()]
    command = [sys.executable, "-m", "extracot_training.cli", stage]
    command += [flag for setting in flags for flag in ("--set", setting)]
    command += ["--set", "processes=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment)


def log_of(folder: Path, *left_out: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in left_out} for line in lines]


def test_two_processes_fine_tune_as_one_does(tmp_path: Path) -> None:
    """A global batch of eight rows: four passes of two on one process, two on each of two."""
    from extracot_training.stages.sft.stage import run

    tiny_policy.make_all(tmp_path)
    settings: dict[str, Any] = {
        "batch": 2, "global_batch": 8, "max_steps": 3, "group_by_length": False,
    }  # fmt: skip
    two = tiny_policy.sft_config(tmp_path, out=tmp_path / "two", **settings)
    finished = on_two("sft", two)
    assert finished.returncode == 0, finished.stderr[-3000:]
    one = run(tiny_policy.sft_config(tmp_path, out=tmp_path / "one", **settings)).folder
    left, right = (load_file(folder / "model.safetensors") for folder in (one, two.out))
    assert all(torch.allclose(left[name], right[name], atol=1e-5) for name in left)


def test_two_processes_roll_out_and_learn_as_one_does(tmp_path: Path) -> None:
    """The same rollouts, dev replies, prices and weights, but for rounding."""
    from extracot_training.stages.chrpo.stage import run

    root = tiny_chrpo.make_all(tmp_path)
    settings: dict[str, Any] = {
        "global_prompts": 4, "steps": 2, "checkpoint_every": 0, "learning_rate": 1e-4,
        "evaluation": {"every": 0, "samples": 3},
    }  # fmt: skip
    two = tiny_chrpo.chrpo_config(root, out=tmp_path / "two", **settings)
    finished = on_two("chrpo", two)
    assert finished.returncode == 0, finished.stderr[-3000:]
    one = run(tiny_chrpo.chrpo_config(root, out=tmp_path / "one", **settings)).folder
    left, right = (load_file(folder / "model.safetensors") for folder in (one, two.out))
    assert all(torch.allclose(left[name], right[name], atol=1e-4) for name in left)
    first, second = (log_of(folder, "step_time") for folder in (one, two.out))
    assert _close(first[0], second[0]), "dev replies before training"
    assert len(first) == len(second) == 4
    for name in ("rollouts", "reward", "accuracy", "price", "tokens"):
        assert first[1][name] == pytest.approx(second[1][name], rel=1e-4), name


def _close(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_close(one[key], other[key]) for key in one)
    return bool(one == pytest.approx(other, rel=1e-4))


@pytest.mark.parametrize("model", [SftConfig, ChrpoConfig])
def test_a_folder_made_before_these_settings_is_gone_on_with(
    model: type[TrainingSettings], tmp_path: Path
) -> None:
    """What an older version wrote lacks them; another number of processes changes nothing."""
    from extracot_training.pipeline.stage import difference, planned_manifest

    now = model.model_validate({"input": "i", "model": "m", "out": tmp_path, "processes": 2})
    planned = planned_manifest("x", now, {})
    older = planned.config.copy()
    for name in ("processes", "accelerate", "global_batch", "global_prompts"):
        older.pop(name, None)
    for name in ("redraws",):
        older.get("rollouts", {}).pop(name, None)
    for name in ("batch", "max_tokens"):
        older.get("evaluation", {}).pop(name, None)
    if model is ChrpoConfig:
        older.pop("lora")
    found = planned.model_copy(update={"config": older, "decisive": {}})
    assert difference(found, planned, model) is None


def place(tmp_path: Path, **settings: Any) -> SftConfig:
    known = {"precision": "fp32", "model": str(tmp_path / "m"), "out": str(tmp_path / "o")}
    return sft(**known | settings)


def test_what_this_machine_lacks_is_said_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"'model': .*/m is not there"):
        check_place(place(tmp_path))
    (tmp_path / "m").mkdir()
    with pytest.raises(ConfigError, match=r"has no config.json; has the stage that makes it ended"):
        check_place(place(tmp_path))
    (tmp_path / "m" / "config.json").write_text("{}")
    check_place(place(tmp_path))
    (tmp_path / "m" / "model.safetensors").write_bytes(bytes(1000))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=9_000))
    check_place(place(tmp_path, lora={}))
    with pytest.raises(ConfigError, match=r"'out': 0.0 GiB are free at .*free some"):
        check_place(place(tmp_path))
    monkeypatch.setattr("transformers.utils.is_torch_bf16_gpu_available", lambda: False)
    monkeypatch.setattr("extracot_training.policy.precision.computes_bfloat16", lambda: False)
    for device in ("auto", "cpu"):
        wanted = r"'precision': bf16 wants a GPU or a processor .*set precision to fp32 or auto"
        with pytest.raises(ConfigError, match=wanted):
            check_place(place(tmp_path, precision="bf16", device=device))
    check_place(place(tmp_path, precision="auto", device="cpu", lora={}))
    monkeypatch.setattr("extracot_training.policy.precision.computes_bfloat16", lambda: True)
    for device in ("auto", "cpu"):
        check_place(place(tmp_path, precision="bf16", device=device, lora={}))


def test_what_a_training_has_written_it_need_not_have_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from extracot_training.pipeline.stage import planned_manifest

    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    (tmp_path / "m" / "model.safetensors").write_bytes(bytes(1000))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5_000))
    with pytest.raises(ConfigError, match=r"'out'"):
        check_place(place(tmp_path))
    (tmp_path / "o" / "checkpoint-1").mkdir(parents=True)
    (tmp_path / "o" / "checkpoint-1" / "optimizer.pt").write_bytes(bytes(5000))
    check_place(place(tmp_path))
    planned_manifest("sft", place(tmp_path), {}).model_copy(update={"finished": "now"}).save(
        tmp_path / "o"
    )
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    check_place(place(tmp_path))


def test_a_tracker_is_known_and_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"no tracker 'wandbb' .did you mean 'wandb'"):
        check_launch(sft(report_to=["wandbb"]))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name, package in (("trackio", r"'extracot\[trackio\]'"), ("mlflow", "mlflow")):
        with pytest.raises(ConfigError, match=rf"{name} is not installed; .*install {package}"):
            check_launch(sft(report_to=[name]))


def test_settings_of_an_earlier_run_are_looked_at_before_anything_is_loaded(tmp_path: Path) -> None:
    config = place(tmp_path)
    folder = tmp_path / "o"
    check_settings("sft", config)
    folder.mkdir()
    made = Manifest(
        stage="sft", config=config.model_dump(mode="json"), decisive=config.fingerprint(),
        inputs={}, git_revision=None, version=None, started="2026-11-29T00:00:00+00:00",
    )  # fmt: skip
    made.save(folder)
    other = config.model_copy(update={"epochs": 1.0})
    check_settings("sft", other)  # it ended before it made anything
    (folder / "log.jsonl").write_text("{}")
    check_settings("sft", config)
    with pytest.raises(StageError, match=r"made with other settings: epochs \(3.0, now 1.0\)"):
        check_settings("sft", other)
