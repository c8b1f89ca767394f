"""A key-value cache that is written in place and can give up rows, for the sampler's loop.

The library's dynamic cache copies everything at each step; with small models that costs more than
the model. Knows the library's cache interface and nothing else.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

ROOM = 64


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer, shape ``(rows, heads, length, width)``, as views of buffers
    that have room for more positions."""

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
