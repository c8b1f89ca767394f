"""The token classifier's loss and its measure: pure functions of logits and labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from extracot_training.compression.encoding import IGNORED


def token_loss(
    logits: Tensor, labels: Tensor, weights: Tensor | None, gamma: float
) -> tuple[Tensor, Tensor]:
    """Summed class-weighted focal loss and the sum of weights, over labels that are not -100.

    ``-w_y (1 - p_y)^gamma log p_y`` (Lin et al. 2017); gamma 0 is plain cross-entropy. ``logits``
    (..., 2), ``labels`` (...).

    >>> loss, norm = token_loss(torch.zeros(1, 2), torch.tensor([1]), None, 2.0)
    >>> round(loss.item(), 4), norm.item()   # 0.25 * ln 2
    (0.1733, 1.0)
    """
    mask = labels != IGNORED
    chosen, target = logits[mask].float(), labels[mask]
    logs = torch.log_softmax(chosen, dim=-1).gather(-1, target[:, None]).squeeze(-1)
    weight = torch.ones_like(logs) if weights is None else weights.to(logs)[target]
    losses = -weight * (1 - logs.exp()).pow(gamma) * logs
    return losses.sum(), weight.sum()


def loss_function(weights: Tensor | None, gamma: float) -> Callable[..., Tensor]:
    """The loss in the form the Trainer calls: ``(outputs, labels, num_items_in_batch)``.

    Divided by the number of labelled tokens of the whole step where the Trainer says it, so that
    accumulation gives the same gradient as one large batch.
    """

    def compute(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        loss, norm = token_loss(outputs.logits, labels, weights, gamma)
        return torch.div(
            loss, norm.clamp(min=1) if num_items_in_batch is None else num_items_in_batch
        )

    return compute


def class_weights(counts: Sequence[int]) -> list[float]:
    """Square root of inverse frequency, mean 1: full balancing would flood a 0.2 budget.

    >>> class_weights([90, 10])
    [0.5, 1.5]
    """
    raw = [(sum(counts) / max(1, count)) ** 0.5 for count in counts]
    return [weight * len(raw) / sum(raw) for weight in raw]


def f1_scores(predicted: Any, labels: Any) -> dict[str, float]:
    """Precision, recall and F1 of "keep", F1 of "drop" and their mean, on numpy arrays."""
    mask = labels != IGNORED
    guess, truth = predicted[mask], labels[mask]
    scores = {}
    for name, value in (("drop", 0), ("keep", 1)):
        hits = int(((guess == value) & (truth == value)).sum())
        said, there = int((guess == value).sum()), int((truth == value).sum())
        scores[f"precision_{name}"] = hits / said if said else 0.0
        scores[f"recall_{name}"] = hits / there if there else 0.0
        scores[f"f1_{name}"] = 2 * hits / (said + there) if said + there else 1.0
    scores["macro_f1"] = (scores["f1_drop"] + scores["f1_keep"]) / 2
    return scores
