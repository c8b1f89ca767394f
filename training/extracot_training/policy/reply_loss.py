"""The loss of replies alone: prompt positions never meet the output matrix, which saves time and
memory where the vocabulary is large.

Places that are learned are picked from the last hidden states of a whole batch, and scored some
hundred at a time: logits of more never exist, nor a copy of them in float32. Gradients of the
states and of the matrix are made with the loss, while a piece's logits are at hand. Knows tensors,
no trainer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from extracot_training.policy.training_settings import PIECE

IGNORED = -100


class ReplyLoss(NamedTuple):
    """``total`` is the summed negative log-likelihood of the ``learned`` labels that count, of
    which the model would say ``right`` ones itself. ``balance`` is a router's loss, of a mixture of
    experts that was asked for it."""

    total: Tensor
    learned: int
    right: Tensor
    balance: Tensor | None


def reply_loss(
    model: Any, inputs: Mapping[str, Any], labels: Tensor, head: Any = None
) -> ReplyLoss:
    """The loss of a batch. ``labels`` (rows, length) are :data:`IGNORED` where nothing is learned;
    ``inputs`` are the model's own. With ``head``, the model's output layer if it is
    :func:`separable`, in pieces."""
    learned = labels[:, 1:] != IGNORED
    targets = labels[:, 1:][learned]
    if head is not None:
        with _replaced(head, lambda states: states):
            output = model(**inputs, use_cache=False)
        states = output.logits[:, :-1][learned]
        total, right = _PieceLoss.apply(states, head.weight, targets)  # type: ignore[no-untyped-call]
    else:
        first = max(1, int((labels != IGNORED).int().argmax(dim=1).min()))
        # The logits of a place predict the next one, hence one more than there are targets.
        output = model(**inputs, use_cache=False, logits_to_keep=labels.shape[1] - first + 1)
        logits, wanted = output.logits[:, :-1], labels[:, first:]
        total = nn.functional.cross_entropy(
            logits.float().flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        right = ((logits.detach().argmax(dim=-1) == wanted) & (wanted != IGNORED)).sum()
    return ReplyLoss(total, targets.numel(), right, getattr(output, "aux_loss", None))


def separable(model: Any) -> Any:
    """The output layer of ``model`` if it has no bias and its product with the last hidden states
    is returned as it is; ``None`` otherwise (scaled or capped logits, adapters on the layer)."""
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or head.bias is not None:
        return None
    ids = torch.ones((1, 2), dtype=torch.long, device=head.weight.device)
    # Scores that no scale and no cap would leave as they are.
    probe = torch.linspace(-1e3, 1e3, len(head.weight), device=ids.device, dtype=head.weight.dtype)
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), _replaced(head, lambda states: probe.expand(*states.shape[:-1], -1)):
            made = model(input_ids=ids, use_cache=False).logits
    finally:
        model.train(training)
    same = made.shape == (1, 2, len(probe)) and torch.equal(made, probe.expand_as(made))
    return head if same else None


@contextmanager
def _replaced(head: nn.Linear, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """The layer does this instead: handing on what it gets, the model returns its last states."""
    vars(head)["forward"] = forward
    try:
        yield
    finally:
        del head.forward


class _PieceLoss(torch.autograd.Function):
    """Summed cross-entropy of ``states`` (places, width) with an output matrix, and how many of the
    likeliest words are right. Differentiable once."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        device = states.device.type
        half = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if half else weight.dtype
        wants_states, wants_weight, _ = ctx.needs_input_grad
        with torch.autocast(device, enabled=False):
            matrix, rows = weight.to(dtype), states.to(dtype)
            total = torch.zeros((), dtype=torch.float32, device=states.device)
            right = torch.zeros((), dtype=torch.long, device=states.device)
            of_states = torch.empty_like(rows) if wants_states else None
            of_weight = torch.zeros_like(weight) if wants_weight else None
            for at in range(0, len(rows), PIECE):
                piece, wanted = rows[at : at + PIECE], targets[at : at + PIECE, None]
                logits = (piece @ matrix.T).float()
                right += (logits.argmax(dim=-1, keepdim=True) == wanted).sum()
                least = logits.logsumexp(dim=-1, keepdim=True)
                total += (least - logits.gather(1, wanted)).sum()
                if of_states is None and of_weight is None:
                    continue
                grown = logits.sub_(least).exp_()  # the words' probabilities, in place
                grown.scatter_add_(1, wanted, grown.new_full(wanted.shape, -1.0))
                given = grown.to(dtype)
                if of_states is not None:
                    of_states[at : at + PIECE] = given @ matrix
                if of_weight is not None:
                    of_weight += given.T @ piece
        ctx.of_states, ctx.of_weight, ctx.kind = of_states, of_weight, states.dtype
        ctx.mark_non_differentiable(right)
        return total, right

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        scale = given[0]
        of_states, of_weight = ctx.of_states, ctx.of_weight
        ctx.of_states = ctx.of_weight = None
        if of_states is not None:
            # The scale, a share of some thousand tokens, is never rounded to bfloat16.
            of_states = of_states.to(ctx.kind).mul_(scale)
        if of_weight is not None:
            of_weight = of_weight.mul_(scale)
        return of_states, of_weight, None
