"""The network over a trace's steps: it sees all of them at once, so that a "Wait" thirty sentences
later reaches the claim that it takes back.

Each step comes as the encoder's mean vector of its tokens and a row of structural features. Two
attention layers look at every other step, biased by signed distance and by references in both
directions. Heads: needed, revoked, and the keep-logits of tokens within a step. Knows no text.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

_FURTHEST = 64


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """``text``: size of a step's vector from the encoder (0: it is not shown), ``features`` of its
    structural row; ``width``, ``layers`` and ``heads`` of the network."""

    text: int
    features: int
    width: int = 96
    layers: int = 2
    heads: int = 4
    dropout: float = 0.2


class StepNetwork(nn.Module):
    """Logits of (needed, revoked) for each step, and of keeping each token."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.width
        self.text = nn.Linear(shape.text, width) if shape.text else None
        self.features = nn.Linear(shape.features, width)
        self.norm = nn.LayerNorm(width)
        self.drop = nn.Dropout(shape.dropout)
        self.layers = nn.ModuleList(_Layer(shape) for _ in range(shape.layers))
        self.head = nn.Linear(width, 2)
        self.token = nn.Linear(shape.text, 32) if shape.text else None
        self.token_step = nn.Linear(width, 32)
        self.token_head = nn.Linear(32, 1)

    def forward(self, text: Tensor, features: Tensor, refers: Tensor, mask: Tensor) -> Tensor:
        """States (batch, steps, width) of ``text`` (batch, steps, text), ``features`` (batch,
        steps, features), ``refers`` (batch, steps, steps; weight of step i's reference to j) and
        ``mask`` (batch, steps; true where a step is)."""
        state: Tensor = self.features(features)
        if self.text is not None:
            state = state + self.text(self.drop(text))
        state = self.drop(torch.nn.functional.gelu(self.norm(state)))
        places = torch.arange(state.shape[1], device=state.device)
        apart = (places[None, :] - places[:, None]).clamp(-_FURTHEST, _FURTHEST)
        buckets = _bucket(apart)
        for layer in self.layers:
            state = layer(state, buckets, refers, mask)
        return state

    def step_logits(self, state: Tensor) -> Tensor:
        """(…, 2): needed, revoked."""
        logits: Tensor = self.head(state)
        return logits

    def token_logits(self, tokens: Tensor, steps: Tensor) -> Tensor:
        """Keep-logits (n) of ``tokens`` (n, text) within steps of state ``steps`` (n, width)."""
        if self.token is None:
            return torch.zeros(len(steps), device=steps.device)
        mixed = torch.nn.functional.gelu(self.token(tokens) + self.token_step(steps))
        logits: Tensor = self.token_head(mixed)
        return logits.squeeze(-1)


class _Layer(nn.Module):
    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        width = shape.width
        self.heads = shape.heads
        self.before = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.distance = nn.Embedding(_BUCKETS, shape.heads)
        self.edges = nn.Parameter(torch.zeros(2, shape.heads))
        self.feed_norm = nn.LayerNorm(width)
        self.feed = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.drop = nn.Dropout(shape.dropout)

    def forward(self, state: Tensor, buckets: Tensor, refers: Tensor, mask: Tensor) -> Tensor:
        batch, count, width = state.shape
        q, k, v = (
            part.view(batch, count, self.heads, -1).transpose(1, 2)
            for part in self.qkv(self.before(state)).chunk(3, dim=-1)
        )
        bias = self.distance(buckets).permute(2, 0, 1)[None]
        for way, weights in enumerate((refers, refers.transpose(1, 2))):
            bias = bias + self.edges[way][None, :, None, None] * weights[:, None]
        bias = bias.masked_fill(~mask[:, None, None, :], -1e4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        state = state + self.drop(self.out(mixed.transpose(1, 2).reshape(batch, count, width)))
        grown: Tensor = state + self.drop(self.feed(self.feed_norm(state)))
        return grown


_EDGES = (0, 1, 2, 3, 4, 6, 9, 14, 22, 36, _FURTHEST + 1)
_BUCKETS = 2 * len(_EDGES) + 1


def _bucket(apart: Tensor) -> Tensor:
    """Signed distance in steps as one of :data:`_BUCKETS` classes, finer near."""
    edges = torch.tensor(_EDGES, device=apart.device)
    size = torch.bucketize(apart.abs(), edges)
    return torch.where(apart < 0, len(_EDGES) - size, len(_EDGES) + size)
