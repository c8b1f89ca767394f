"""A configuration per size of model and kind of machine: 135M on a CPU, 1.7B on one GPU, 8B on
eight. What follows from the data (lengths, steps) is not here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from extracot_training.planning.shape import GIB, Shape
from extracot_training.run.machine import Machine

SMALL, MIDDLE = 0.6e9, 4e9
# Bytes per weight of a training in full: weights, gradients, two moments in float32.
IN_FULL = 16
# Of a GPU's memory, what weights and optimizer may take, so that activations fit beside them.
SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Preset:
    """``rows`` and ``prompts`` are per step of all processes together; ``batch`` and ``micro`` rows
    of one pass of one process. ``lora``: of ``sft`` and ``chrpo``, or of ``chrpo`` alone, or of
    none. ``dtype`` is what engines that generate compute in. ``reference`` and ``judged`` are
    problems at most, ``steps`` chrpo's."""

    name: str
    precision: str
    learning_rate: float
    chrpo_rate: float
    batch: int
    rows: int
    prompts: int
    micro: int
    processes: int = 1
    gpu: bool = False
    recompute: bool = True
    sharded: bool = False
    lora_sft: bool = False
    lora_chrpo: bool = False
    dtype: str = "float32"
    kl: float = 0.001
    vllm: bool = True
    samples: int = 4
    reference: int = 2000
    judged: int = 1000
    steps: int = 200
    concurrency: int = 64


CPU = Preset(
    "a CPU", "auto", 3e-4, 1e-5, batch=4, rows=8, prompts=4, micro=10, recompute=False, kl=0.0,
    vllm=False, samples=2, reference=100, judged=100, steps=40, concurrency=8,
)  # fmt: skip
GPU_SMALL = Preset("one GPU", "bf16", 1e-4, 2e-6, batch=8, rows=32, prompts=16, micro=32)
GPU_MIDDLE = Preset("one GPU", "bf16", 2e-5, 1e-6, batch=2, rows=128, prompts=16, micro=4)
GPU_LARGE = Preset(
    "one GPU", "bf16", 1e-5, 1e-6, batch=1, rows=128, prompts=16, micro=2, lora_chrpo=True
)
LORA_RATE = 10.0  # adapters learn at so many times the rate


def preset_of(shape: Shape, machine: Machine, *, lora: bool, vllm: bool) -> Preset:
    """The configuration for a model of this size here. ``vllm``: it is installed."""
    dtype = "bfloat16" if machine.bf16 else "float32"
    found = replace(_of_size(shape, machine), dtype=dtype)
    if machine.gpus:
        several = "one GPU" if machine.gpus == 1 else f"{machine.gpus} GPUs"
        precision = found.precision if machine.bf16 else "fp32"
        found = replace(found, name=several, gpu=True, precision=precision, vllm=vllm)
        found = _spread(found, machine.gpus)
        found = _fitted(found, shape, machine)
    if lora:
        found = replace(found, lora_sft=True, lora_chrpo=True, sharded=False)
    if found.lora_sft:
        found = replace(found, learning_rate=found.learning_rate * LORA_RATE)
    if found.lora_chrpo:
        found = replace(found, chrpo_rate=found.chrpo_rate * LORA_RATE)
    return replace(found, name=f"{_size(shape)} on {found.name}{_how(found)}")


def _of_size(shape: Shape, machine: Machine) -> Preset:
    if not machine.gpus:
        return CPU if shape.weights <= SMALL else replace(CPU, batch=1, micro=2, recompute=True)
    if shape.weights <= SMALL:
        return GPU_SMALL
    return GPU_MIDDLE if shape.weights <= MIDDLE else GPU_LARGE


def _spread(preset: Preset, gpus: int) -> Preset:
    """The same rows a step on several GPUs, a few more where they don't divide evenly."""
    at_once = preset.batch * gpus
    return replace(
        preset,
        processes=gpus,
        rows=-(-preset.rows // at_once) * at_once,
        prompts=-(-preset.prompts // gpus) * gpus,
    )


def _fitted(preset: Preset, shape: Shape, machine: Machine) -> Preset:
    """Weights that do not fit with their optimizer are shared out, or adapted."""
    room, full = SHARE * machine.gpu_gib * GIB, IN_FULL * shape.weights
    if full <= room:
        return preset
    if full / machine.gpus <= room:
        return replace(preset, sharded=True, lora_chrpo=True)
    return replace(preset, lora_sft=True, lora_chrpo=True)


def _size(shape: Shape) -> str:
    weights = shape.weights
    return f"{weights / 1e9:.1f}B" if weights >= 1e9 else f"{weights / 1e6:.3g}M"


def _how(preset: Preset) -> str:
    half = preset.dtype == "bfloat16"
    parts = [("bf16" if half else "fp32") if preset.precision == "auto" else preset.precision]
    if preset.sharded:
        parts.append("weights sharded")
    if preset.lora_sft:
        parts.append("adapters")
    elif preset.lora_chrpo:
        parts.append("adapters in chrpo")
    return f" ({', '.join(parts)})"
