"""Which number format a training computes in: ``auto`` is settled by what this machine has.

bfloat16 is two to three times as fast as float32 where there are instructions for it (GPUs; CPUs
with AVX512_BF16, AMX or Arm's), and several times slower elsewhere. Weights and the optimizer stay
in float32. Knows no trainer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from extracot.processor import computes_bfloat16
from extracot_training.errors import ConfigError

if TYPE_CHECKING:
    from extracot_training.policy.training_settings import TrainingSettings

Settled = Literal["fp32", "bf16", "pure_bf16"]


def settled(config: TrainingSettings) -> Settled:
    """The setting ``precision``, ``auto`` replaced by what it comes to on this machine."""
    if config.precision != "auto":
        return config.precision
    return "bf16" if _has_bfloat16(config) else "fp32"


def told(config: TrainingSettings) -> str:
    """What ``auto`` came to, in words."""
    place = "processor" if on_cpu(config) else "GPU"
    if settled(config) == "bf16":
        return f"precision: bf16, which this {place} computes in (float32 weights)"
    return f"precision: fp32, for this {place} has no instructions for bfloat16"


def check_precision(config: TrainingSettings) -> None:
    """Raises :class:`ConfigError` for ``bf16`` where nothing computes in it."""
    if config.precision != "bf16" or _has_bfloat16(config):
        return
    if config.device != "cpu" and _count_gpus():
        found = "the GPU here does not"
    elif config.device == "cpu":
        found = "this processor does not (no avx512_bf16, amx_bf16 or Arm's bf16)"
    else:
        found = "there is no GPU here, and this processor does not"
    raise ConfigError(
        f"setting 'precision': bf16 wants a GPU or a processor that computes in it, and {found}; "
        "set precision to fp32 or auto",
        key="precision",
    )


def on_cpu(config: TrainingSettings) -> bool:
    """Whether the training runs on the CPU, asked for or because there is no GPU."""
    return config.device == "cpu" or not _count_gpus()


def _has_bfloat16(config: TrainingSettings) -> bool:
    if on_cpu(config):
        return computes_bfloat16()
    from transformers.utils import is_torch_bf16_gpu_available

    return bool(is_torch_bf16_gpu_available())


def _count_gpus() -> int:
    import torch

    return torch.accelerator.device_count()
