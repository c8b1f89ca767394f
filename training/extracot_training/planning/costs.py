"""What training and generating cost: operations, hours, bytes. Arithmetic alone.

A pass forward takes 2 operations a weight and token, backward 4; recomputing activations takes one
more pass forward. Memory of a training is what every weight has (itself, its gradient, AdamW's two
moments), the activations that are kept, and the logits.
"""

from __future__ import annotations

from dataclasses import dataclass

from extracot_training.config.plan import Assumptions
from extracot_training.planning.shape import GIB, Shape
from extracot_training.policy.precision import settled
from extracot_training.policy.training_settings import TrainingSettings

FORWARD = 2.0
BACKWARD = 4.0
# Of one block's activations while it is recomputed, in units of tokens x (hidden + feed-forward).
INSIDE = 8.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one stage. ``hours`` are of the whole stage on ``gpus`` GPUs (0: on the CPU); ``memory``
    has bytes by what needs them, on each GPU."""

    tokens: float
    hours: float
    gpus: int
    memory: dict[str, float]

    @property
    def gib(self) -> float:
        """All memory on a GPU."""
        return sum(self.memory.values()) / GIB


def passes(config: TrainingSettings) -> float:
    """Operations per weight and token of one update."""
    return FORWARD + BACKWARD + (FORWARD if config.gradient_checkpointing else 0.0)


def learning_share(shape: Shape, frozen: int) -> float:
    """Of all weights, those that are not in the lowest ``frozen`` layers."""
    return 1.0 - frozen * shape.block / shape.weights


def training_hours(operations: float, gpus: int, assume: Assumptions) -> float:
    """At the share of the peak that is assumed."""
    return operations / (assume.peak_tflops * 1e12 * assume.mfu * gpus) / 3600


def generation_hours(tokens: float, per_second: float, gpus: int = 1) -> float:
    """At so many tokens per second and GPU."""
    return tokens / (per_second * gpus) / 3600


def states(
    config: TrainingSettings, shape: Shape, shards: int, learning: float = 1.0
) -> dict[str, float]:
    """Bytes of weights, gradients and optimizer, these for the share of weights that is
    ``learning``. AdamW's moments have the weights' type."""
    size = 2 if config.precision == "pure_bf16" else 4
    if config.lora is not None:
        small = shape.adapter(config.lora.rank)
        return {"weights": size * (shape.weights + small), "gradients": size * small,
                "optimizer": 2 * size * small}  # fmt: skip
    each = size * shape.weights / shards
    return {"weights": each, "gradients": learning * each, "optimizer": 2 * learning * each}


def activations(
    config: TrainingSettings, shape: Shape, rows: int, length: float
) -> dict[str, float]:
    """Bytes of a pass over ``rows`` of ``length`` tokens, in bfloat16, and of its logits in
    float32 with their gradient."""
    tokens, size = rows * length, 4 if settled(config) == "fp32" else 2
    block = INSIDE * tokens * (shape.hidden + shape.feed_forward) * size
    kept = shape.layers * tokens * shape.hidden * size
    inside = kept + block if config.gradient_checkpointing else shape.layers * block
    return {"activations": inside, "logits": 2 * 4.0 * tokens * shape.vocabulary}


def cache(shape: Shape, rows: int, length: float) -> float:
    """Bytes of keys and values of ``rows`` replies of ``length`` tokens."""
    return shape.kv_bytes * rows * length
