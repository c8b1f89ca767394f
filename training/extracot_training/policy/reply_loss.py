"""The loss of replies alone: logits are computed only for the reply, which saves time on CPUs.

Knows tensors, no trainer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

IGNORED = -100


def reply_loss(
    model: Any, inputs: Mapping[str, Any], labels: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """``(total, logits, targets)``: the summed negative log-likelihood of the labels that count,
    and what it was made of, (rows, places, vocabulary) and (rows, places).

    ``labels`` (rows, length) are :data:`IGNORED` where nothing is learned; ``inputs`` are the
    model's own.
    """
    first = max(1, int((labels != IGNORED).int().argmax(dim=1).min()))
    # The logits of a place predict the next one, hence one more than there are targets.
    keep = labels.shape[1] - first + 1
    logits = model(**inputs, use_cache=False, logits_to_keep=keep).logits[:, :-1]
    targets = labels[:, first:]
    total = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total, logits, targets
