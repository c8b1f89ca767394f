"""The loss of replies alone: logits are computed only for the reply, which saves time on CPUs.

Knows tensors, no trainer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

IGNORED = -100


class ReplyLoss(NamedTuple):
    """``total`` is the summed negative log-likelihood of the labels that count, made of ``logits``
    (rows, places, vocabulary) and ``targets`` (rows, places). ``balance`` is a router's loss, of a
    mixture of experts that was asked for it."""

    total: Tensor
    logits: Tensor
    targets: Tensor
    balance: Tensor | None


def reply_loss(model: Any, inputs: Mapping[str, Any], labels: Tensor) -> ReplyLoss:
    """The loss of a batch. ``labels`` (rows, length) are :data:`IGNORED` where nothing is learned;
    ``inputs`` are the model's own."""
    first = max(1, int((labels != IGNORED).int().argmax(dim=1).min()))
    # The logits of a place predict the next one, hence one more than there are targets.
    keep = labels.shape[1] - first + 1
    output = model(**inputs, use_cache=False, logits_to_keep=keep)
    logits = output.logits[:, :-1]
    targets = labels[:, first:]
    total = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return ReplyLoss(total, logits, targets, getattr(output, "aux_loss", None))
