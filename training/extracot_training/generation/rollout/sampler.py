"""Samples replies from a causal model in this process, many at a time.

Every reply has a seed of its own, so what is drawn for it does not depend on what else is in the
batch. Prompts that occur several times are read once; rows that have ended leave the batch. Knows
models of ``transformers`` and token ids; knows no text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from extracot_training.config.sampling import RolloutSamplingParams

# Moving the cache costs as much as a few steps: rows leave when so many have ended.
LEAVING = 0.2
# Positions that a cache has free when it grows.
ROOM = 64


@dataclass(frozen=True, slots=True)
class Generated:
    """``ids`` with the end token, if it came; ``first`` holds the probabilities of the watched ids
    to be the first token, whichever it was."""

    ids: tuple[int, ...]
    first: tuple[float, ...]


def seed_of(*parts: object) -> int:
    """A seed made of ``parts``: the same in every process and on every machine."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big")


@dataclass(frozen=True, slots=True)
class Sampler:
    """Generates from ``model``, at most ``batch`` replies at a time, in the order given.

    ``end_ids`` end a reply. ``pad_id`` fills prompts up on the left and is masked. ``watched`` ids
    have their probability of being first reported, at temperature ``watched_at``. The model's
    training mode is put back afterwards.
    """

    model: Any
    params: RolloutSamplingParams
    _: KW_ONLY
    end_ids: Sequence[int]
    batch: int
    pad_id: int
    watched: Sequence[int] = ()
    watched_at: float = 1.0

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        forced: Sequence[int | None] | None = None,
    ) -> list[Generated]:
        """One reply per prompt; it begins with its id of ``forced``, where that is one.

        Raises ``ValueError`` for an empty prompt.
        """
        return [one for part in self.batches(prompts, seeds, forced) for one in part]

    def batches(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        forced: Sequence[int | None] | None = None,
    ) -> Iterator[list[Generated]]:
        """The same, batch by batch."""
        begin = [-1 if id_ is None else id_ for id_ in forced or [None] * len(prompts)]
        if not all(prompts):
            raise ValueError("a prompt is empty")
        training = self.model.training
        self.model.eval()
        try:
            for at in range(0, len(prompts), self.batch):
                rows = [tuple(prompt) for prompt in prompts[at : at + self.batch]]
                with torch.no_grad():
                    yield self._batch(
                        rows, seeds[at : at + self.batch], begin[at : at + self.batch]
                    )
        finally:
            self.model.train(training)

    def _batch(
        self, prompts: list[tuple[int, ...]], seeds: Sequence[int], begin: Sequence[int]
    ) -> list[Generated]:
        limit, rows = self.params.max_tokens, len(prompts)
        device = self.model.get_input_embeddings().weight.device
        logits, mask, cache = self._read(prompts, device)
        first = torch.softmax(logits / self.watched_at, -1)[:, list(self.watched)].tolist()
        forced = torch.tensor(begin, device=device)
        # Uniform draws in [0, 1): a row's depend on its seed alone.
        drawn = [np.random.default_rng(seed).random(limit, dtype=np.float32) for seed in seeds]
        draws = torch.from_numpy(np.stack(drawn)).to(device)
        ends = torch.tensor(self.end_ids, device=device)
        made = torch.full((rows, limit), -1, device=device)
        alive = torch.arange(rows, device=device)  # the batch's rows, by their place in `prompts`
        running = torch.ones(rows, dtype=torch.bool, device=device)
        for step in range(limit):
            tokens = self._pick(logits, draws[alive, step])
            if step == 0:
                tokens = torch.where(forced >= 0, forced, tokens)
            made[alive[running], step] = tokens[running]
            running = running & ~torch.isin(tokens, ends)
            left = int(running.sum())
            if left == 0 or step + 1 == limit:
                break
            if left <= (1 - LEAVING) * len(alive):
                kept = running.nonzero().squeeze(1)
                cache.batch_select_indices(kept)
                alive, mask, tokens, running = (x[kept] for x in (alive, mask, tokens, running))
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            logits = self._forward(tokens[:, None], mask, mask.sum(1, keepdim=True) - 1, cache)
        ids = [tuple(id_ for id_ in row if id_ >= 0) for row in made.tolist()]
        return [Generated(one, tuple(share)) for one, share in zip(ids, first, strict=True)]

    def _read(self, prompts: list[tuple[int, ...]], device: Any) -> tuple[Tensor, Tensor, Any]:
        """(next logits, mask, cache), one row per prompt, each different prompt read once."""
        place = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
        width = max(map(len, place))
        ids = torch.full((len(place), width), self.pad_id)
        mask = torch.zeros(len(place), width, dtype=torch.long)
        for prompt, row in place.items():
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        ids, mask = ids.to(device), mask.to(device)
        cache = empty_cache(self.model.config)
        logits = self._forward(ids, mask, (mask.cumsum(1) - 1).clamp(min=0), cache)
        rows = torch.tensor([place[prompt] for prompt in prompts], device=device)
        if len(place) < len(prompts):
            cache.batch_select_indices(rows)
        return logits[rows], mask[rows], cache

    def _forward(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
        """Logits of the last position, float32, shape ``(rows, vocabulary)``."""
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **_plain(self.model.config),
        )
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def _pick(self, logits: Tensor, draws: Tensor) -> Tensor:
        """Tokens, by inverting the cumulative distribution at one uniform draw per row."""
        if self.params.temperature == 0:
            return logits.argmax(-1)
        shares = torch.softmax(logits / self.params.temperature, -1)
        if self.params.top_p < 1:
            ordered, order = shares.sort(dim=-1, descending=True)
            outside = ordered.cumsum(-1) - ordered >= self.params.top_p
            shares = shares.scatter(1, order, ordered.masked_fill(outside, 0.0))
        sums = shares.cumsum(-1)
        wanted = draws[:, None] * sums[:, -1:]
        picked = torch.searchsorted(sums, wanted, right=True).squeeze(1)
        # Rounding may put a draw at the very end, where there is no token.
        return torch.where(picked < shares.shape[1], picked, shares.argmax(-1))


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer, shape ``(rows, heads, length, width)``, as views of buffers
    that have room for more positions: written in place, and rows can be given up.

    The library's dynamic cache copies everything at each step; with small models that costs more
    than the model.
    """

    keys: Any
    values: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append positions and return all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        length = self.get_seq_length()
        total = length + key_states.shape[-2]
        if self._buffers is None or total > self._buffers[0].shape[-2]:
            room = max(total + ROOM, length * 3 // 2)
            old, new = (self.keys, self.values), (key_states, value_states)
            self._buffers = _grown(old[0], new[0], room), _grown(old[1], new[1], room)
        keys, values = self._buffers
        keys[..., length:total, :] = key_states
        values[..., length:total, :] = value_states
        self.keys, self.values = keys[..., :total, :], values[..., :total, :]
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows, in this order; a row may be taken more than once."""
        if self._buffers is None:
            return
        length = self.get_seq_length()
        keys, values = (buffer.index_select(0, indices) for buffer in self._buffers)
        self._buffers = (keys, values)
        self.keys, self.values = keys[..., :length, :], values[..., :length, :]


def _plain(config: Any) -> dict[str, bool]:
    """Keeps a mixture of experts from its router's loss, which no padded, cached batch has."""
    routes = hasattr(config.get_text_config(), "output_router_logits")
    return {"output_router_logits": False} if routes else {}


def empty_cache(config: Any) -> Cache:
    """A cache for a model of this configuration: ours where all layers attend to everything."""
    kinds = set(getattr(config.get_text_config(), "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        return DynamicCache(config=config)
    return Cache(layer_class_to_replicate=GrowingLayer)


def _grown(old: Tensor, new: Tensor, room: int) -> Tensor:
    rows, heads, _, width = new.shape
    buffer = new.new_empty((rows, heads, room, width))
    if old.numel():
        buffer[..., : old.shape[-2], :] = old
    return buffer
