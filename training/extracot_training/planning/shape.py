"""The shape of a causal model, by its folder's config.json or its name: enough for arithmetic."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extracot_training.errors import ConfigError

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a transformer of Llama's kind; ``weights`` counts all of them, tied ones once."""

    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    weights: float

    @property
    def kv_bytes(self) -> int:
        """Of keys and values of one token, in bfloat16."""
        return 2 * self.layers * self.kv_heads * self.head_dim * 2

    @property
    def block(self) -> float:
        """Weights of one layer, norms left out."""
        wide, narrow = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return float(self.hidden * (2 * wide + 2 * narrow + 3 * self.feed_forward))

    def adapter(self, rank: int) -> float:
        """Weights of adapters of this rank on every linear layer of the blocks."""
        wide, narrow = self.heads * self.head_dim, self.kv_heads * self.head_dim
        pairs = [(self.hidden, wide), (self.hidden, narrow), (self.hidden, narrow),
                 (wide, self.hidden), *[(self.hidden, self.feed_forward)] * 3]  # fmt: skip
        return float(self.layers * rank * sum(sum(pair) for pair in pairs))


def shape_of_config(said: Mapping[str, Any]) -> Shape:
    """From the fields of a config.json. Raises ``KeyError`` where one is missing."""
    hidden, heads = int(said["hidden_size"]), int(said["num_attention_heads"])
    kv_heads = int(said.get("num_key_value_heads") or heads)
    head_dim = int(said.get("head_dim") or hidden // heads)
    layers, wide = int(said["num_hidden_layers"]), int(said["intermediate_size"])
    vocabulary = int(said["vocab_size"])
    attention = 2 * hidden * heads * head_dim + 2 * hidden * kv_heads * head_dim
    block = attention + 3 * hidden * wide + 2 * hidden
    matrices = 1 if said.get("tie_word_embeddings") else 2
    weights = layers * block + matrices * vocabulary * hidden
    return Shape(layers, hidden, wide, heads, kv_heads, head_dim, vocabulary, float(weights))


# Published shapes, for plans on machines that have no copy of the model.
QWEN3 = {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936}
KNOWN = {
    "Qwen/Qwen3-0.6B": QWEN3
    | {"hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16,
       "intermediate_size": 3072, "tie_word_embeddings": True},
    "Qwen/Qwen3-1.7B": QWEN3
    | {"hidden_size": 2048, "num_hidden_layers": 28, "num_attention_heads": 16,
       "intermediate_size": 6144, "tie_word_embeddings": True},
    "Qwen/Qwen3-4B": QWEN3
    | {"hidden_size": 2560, "num_hidden_layers": 36, "num_attention_heads": 32,
       "intermediate_size": 9728, "tie_word_embeddings": True},
    "Qwen/Qwen3-8B": QWEN3
    | {"hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32,
       "intermediate_size": 12288, "tie_word_embeddings": False},
}  # fmt: skip


def shape_of(model: str, weights: float | None) -> Shape | None:
    """Of a folder or a known name; ``weights`` replaces the count, or stands for a model of Qwen3's
    proportions where nothing else is known. ``None`` where nothing is.

    Raises :class:`ConfigError` for a config.json that says too little.
    """
    file = Path(model) / "config.json"
    if file.is_file():
        try:
            return shape_of_config(json.loads(file.read_text(encoding="utf-8")))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{file}: says no sizes of a causal model ({error})") from error
    if model in KNOWN:
        return shape_of_config(KNOWN[model])
    if weights is None:
        return None
    like = shape_of_config(KNOWN["Qwen/Qwen3-1.7B"])
    return Shape(like.layers, like.hidden, like.feed_forward, like.heads, like.kv_heads,
                 like.head_dim, like.vocabulary, weights)  # fmt: skip
