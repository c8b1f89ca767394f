"""What a run finds here: GPUs, memory, speed, and the model's own sizes and tokenizer.

Looked up in a process of its own, so that the one that starts the stages never touches a GPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from extracot.processor import computes_bfloat16
from extracot_training.errors import ConfigError, TrainingError
from extracot_training.planning.shape import GIB, Shape, shape_of_config

_SIZE = 768
_LINE = "extracot-machine "


@dataclass(frozen=True, slots=True)
class Machine:
    """``tflops`` are measured, of the CPU in float32; ``gpu_gib`` is of the smallest GPU in use.
    ``bf16``: the GPUs, or else the CPU, compute in bfloat16."""

    cores: int
    memory_gib: float
    gpus: int
    gpu: str
    gpu_gib: float
    bf16: bool
    tflops: float

    @property
    def name(self) -> str:
        """In words."""
        if self.gpus:
            return f"{self.gpus} x {self.gpu} ({self.gpu_gib:.0f} GiB each)"
        return f"{self.cores} CPU cores ({self.memory_gib:.0f} GiB, {self.tflops:.2f} TFLOP/s)"


@dataclass(frozen=True, slots=True)
class Base:
    """The base model: its sizes, and how many tokens it can read at most."""

    shape: Shape
    positions: int


def look(model: str, *, gpus: int | None, cpu: bool) -> tuple[Machine, Base]:
    """Raises :class:`ConfigError` in one line: a model or tokenizer that is not there or cannot be
    trained, fewer GPUs than asked for."""
    command = [sys.executable, "-W", "ignore", "-m", __name__, model, "cpu" if cpu else "auto"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    lines = [line for line in done.stdout.splitlines() if line.startswith(_LINE)]
    if done.returncode or not lines:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise ConfigError(f"--model {model}: {said[-1]}", key="model")
    found = json.loads(lines[-1].removeprefix(_LINE))
    if found.get("fault"):
        raise ConfigError(f"--model {model}: {found['fault']}", key="model")
    machine = Machine(**found["machine"])
    if gpus is not None and gpus > machine.gpus:
        there = f"{machine.gpus} found here" if machine.gpus else "none was found here"
        raise ConfigError(f"--gpus {gpus}: {there}", key="gpus")
    if gpus is not None:
        machine = Machine(**{**found["machine"], "gpus": gpus})
    return machine, Base(Shape(**found["shape"]), found["positions"])


def _main(model: str, device: str) -> None:
    """Prints what :func:`look` reads."""
    try:
        shape, positions = _base(model)
    except TrainingError as error:
        print(_LINE + json.dumps({"fault": str(error)}))
        return
    sizes = {name: getattr(shape, name) for name in Shape.__slots__}
    found = {"machine": _machine(device), "shape": sizes, "positions": positions}
    print(_LINE + json.dumps(found))


def _machine(device: str) -> dict[str, Any]:
    import torch

    gpus = torch.cuda.device_count() if device != "cpu" else 0
    each = [torch.cuda.get_device_properties(number) for number in range(gpus)]
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB,
        "gpus": gpus,
        "gpu": each[0].name if each else "",
        "gpu_gib": min((one.total_memory / GIB for one in each), default=0.0),
        "bf16": torch.cuda.is_bf16_supported(including_emulation=False)
        if gpus
        else computes_bfloat16(),
        "tflops": _speed(torch),
    }


def _speed(torch: Any) -> float:
    """Of a product of matrices on the CPU, the best of some."""
    one = torch.ones(_SIZE, _SIZE)
    best = float("inf")
    for _ in range(6):
        began = time.perf_counter()
        one @ one
        best = min(best, time.perf_counter() - began)
    return float(2 * _SIZE**3 / best / 1e12)


def _base(model: str) -> tuple[Shape, int]:
    """Raises :class:`TrainingError`: no such model, no fast tokenizer, no end token."""
    from transformers import AutoConfig

    from extracot_training.policy.loading import load_policy_tokenizer
    from extracot_training.policy.pretrained import first_line, located
    from extracot_training.policy.prompt_settings import PromptSettings

    path, extra = located(model)
    try:
        config = AutoConfig.from_pretrained(path, **extra)
    except (OSError, ValueError) as error:
        raise ConfigError(first_line(error)) from error
    load_policy_tokenizer(model, PromptSettings())
    said = _sizes(config.get_text_config())
    try:
        return shape_of_config(said), int(said.get("max_position_embeddings") or 4096)
    except KeyError as error:
        raise ConfigError(f"its configuration says no {error.args[0]}") from error


def _sizes(config: Any) -> dict[str, Any]:
    """By the names that most architectures have; others map theirs to them (GPT-2's `n_embd`)."""
    names = (
        "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim",
        "num_hidden_layers", "intermediate_size", "vocab_size", "tie_word_embeddings",
        "max_position_embeddings",
    )  # fmt: skip
    said = {name: getattr(config, name, None) for name in names}
    said = {name: value for name, value in said.items() if value is not None}
    said.setdefault("intermediate_size", 4 * int(said.get("hidden_size") or 0))
    return said


if __name__ == "__main__":
    _main(*sys.argv[1:3])
